//! Lines of the log for programs: one that belongs to a run has `run`, `task` and `trace_id` where they are looked for,
//! beside the spans in which it was written.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// What a line says of its run.
const NAMES: [&str; 3] = ["run", "task", "trace_id"];

/// A format of JSON lines, with [`NAMES`] put first.
pub(super) struct OfRuns<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for OfRuns<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let mut of_its_run = Said::default();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<FormattedFields<N>>() else { continue };
            of_its_run.take(serde_json::from_str(&fields.fields).unwrap_or_default());
        }
        event.record(&mut of_its_run);
        let (Some(rest), false) = (line.strip_prefix('{'), of_its_run.0.is_empty()) else {
            return writer.write_str(&line);
        };
        let first = Value::Object(of_its_run.0).to_string();
        let first = first.strip_suffix('}').unwrap_or(&first);
        write!(writer, "{first},{rest}")
    }
}

/// What was found; the innermost counts.
#[derive(Default)]
struct Said(Map<String, Value>);

impl Said {
    fn take(&mut self, mut fields: Map<String, Value>) {
        for name in NAMES {
            self.0.extend(fields.remove(name).map(|value| (name.to_owned(), value)));
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if NAMES.contains(&field.name()) {
            self.0.insert(field.name().to_owned(), value.into());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if NAMES.contains(&field.name()) {
            self.0.insert(field.name().to_owned(), format!("{value:?}").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_belongs_to_a_run_says_to_which() {
        let kept = Kept::default();
        let out = kept.clone();
        let log = tracing_subscriber::fmt().json().map_event_format(OfRuns).with_writer(move || out.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let run = tracing::info_span!("run", run = %"run_1", trace_id = "4bf9");
            let _in_run = run.enter();
            tracing::info!("of the run");
            let task = tracing::info_span!("task", task = %"/do/0/a#0", attempt = 1);
            let _in_task = task.enter();
            tracing::info!("of the task");
        });
        let other = kept.clone();
        let log = tracing_subscriber::fmt().json().map_event_format(OfRuns).with_writer(move || other.clone()).finish();
        tracing::subscriber::with_default(log, || {
            tracing::info!(run = %"run_}", "named by the line itself");
            tracing::info!("of nobody");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said = |line: &Value| NAMES.map(|name| line[name].as_str().unwrap_or_default().to_owned());
        assert_eq!(said(&lines[0]), ["run_1", "", "4bf9"]);
        assert_eq!(said(&lines[1]), ["run_1", "/do/0/a#0", "4bf9"]);
        assert_eq!(said(&lines[2]), ["run_}", "", ""]);
        assert_eq!(said(&lines[3]), ["", "", ""]);
        assert_eq!(lines[1]["fields"]["message"], "of the task");
        assert_eq!(lines[1]["spans"][1]["attempt"], 1);
    }
}
