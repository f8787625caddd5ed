//! The expressions of a definition, without evaluating any: do they parse, and is every variable there?

use std::collections::BTreeSet;

use super::{Call, Compensate, Delay, Source, Task, TaskKind, Workflow};
use crate::diagnostic::{Diagnostic, code, nearest};
use crate::expression::{Error, Evaluator, Template, Text};

/// Variables of an expression that stands in a task.
const IN_TASK: [&str; 5] = ["context", "input", "task", "workflow", "runtime"];
/// Variables of an expression that stands at the top.
const AT_TOP: [&str; 2] = ["workflow", "runtime"];
/// Variables that the language has and this version does not fill.
const NOT_SUPPORTED: [&str; 2] = ["secrets", "authorization"];
/// At most so many faults are reported.
const DIAGNOSTICS_MAX: usize = 100;

/// Inspects every expression of `workflow`, which was parsed from `source`.
///
/// The diagnostics are all errors: programs that do not parse, and variables that do not exist where they are read.
/// Whether a program gives what its place needs is only known when it runs.
#[must_use]
pub fn check_expressions(workflow: &Workflow, source: &Source, evaluator: &dyn Evaluator) -> Vec<Diagnostic> {
    let mut check = Check { workflow, source, evaluator, diagnostics: Vec::new() };
    check.top();
    for task in &workflow.tasks {
        check.task(task);
        if check.diagnostics.len() >= DIAGNOSTICS_MAX {
            break;
        }
    }
    let mut diagnostics = check.diagnostics;
    diagnostics.truncate(DIAGNOSTICS_MAX);
    diagnostics.sort_by_key(|d| d.place.as_ref().map(|p| (p.line, p.column)));
    diagnostics
}

/// The variables that an expression can read.
type Scope = BTreeSet<String>;

struct Check<'a> {
    workflow: &'a Workflow,
    source: &'a Source,
    evaluator: &'a dyn Evaluator,
    diagnostics: Vec<Diagnostic>,
}

impl Check<'_> {
    fn top(&mut self) {
        let workflow = self.workflow;
        let scope: Scope = AT_TOP.iter().map(|&v| v.to_owned()).collect();
        self.template(None, workflow.input.from.as_ref(), &scope);
        // It has to be the same whenever and wherever it is asked for.
        self.template(None, workflow.extras.idempotency_key.as_ref(), &Scope::new());
        self.template(None, workflow.extras.concurrency.as_ref().map(|c| &c.group), &scope);
        let scope: Scope = IN_TASK.iter().filter(|v| **v != "task").map(|&v| v.to_owned()).collect();
        self.template(None, workflow.output.transform.as_ref(), &scope);
        self.delay(None, workflow.timeout.as_ref(), &scope);
    }

    fn task(&mut self, task: &Task) {
        let scope = self.scope_around(task);
        let at = Some(task);
        self.text(at, task.condition.as_ref(), &scope);
        self.template(at, task.input.from.as_ref(), &scope);
        self.delay(at, task.timeout.as_ref(), &scope);
        self.kind(task, &scope);
        self.template(at, task.output.transform.as_ref(), &scope);
        let mut with_output = scope;
        with_output.insert("output".to_owned());
        self.template(at, task.export.transform.as_ref(), &with_output);
    }

    fn kind(&mut self, task: &Task, scope: &Scope) {
        let at = Some(task);
        match &task.kind {
            TaskKind::Do(_) | TaskKind::Fork { .. } => {}
            TaskKind::Call(call) => {
                let compensating = match &task.extras.compensate {
                    Some(Compensate::Call(call)) => Some(call),
                    Some(Compensate::Named(_)) | None => None,
                };
                for Call { arguments, connection, .. } in [Some(call), compensating].into_iter().flatten() {
                    self.template(at, Some(arguments), scope);
                    self.text(at, connection.as_ref(), scope);
                }
            }
            TaskKind::Set(template) | TaskKind::Raise(template) => self.template(at, Some(template), scope),
            TaskKind::Wait(delay) => self.delay(at, Some(delay), scope),
            TaskKind::Switch(cases) => cases.iter().for_each(|case| self.text(at, case.when.as_ref(), scope)),
            TaskKind::For(each) => {
                self.text(at, Some(&each.collection), scope);
                let inner = with(scope, [&each.each, &each.at]);
                self.text(at, each.condition.as_ref(), &inner);
            }
            TaskKind::Try(caught) => {
                caught.filter.values().for_each(|template| self.template(at, Some(template), scope));
                let inner = with(scope, [&caught.variable]);
                self.text(at, caught.when.as_ref(), &inner);
                self.text(at, caught.except_when.as_ref(), &inner);
                if let Some(retry) = &caught.retry {
                    self.text(at, retry.when.as_ref(), &inner);
                    self.text(at, retry.except_when.as_ref(), &inner);
                    let (from, to) = retry.jitter.as_ref().map(|(from, to)| (from, to)).unzip();
                    for delay in
                        [Some(&retry.delay), retry.attempt_duration.as_ref(), retry.duration.as_ref(), from, to]
                    {
                        self.delay(at, delay, &inner);
                    }
                }
            }
        }
    }

    /// What the tasks around `task` add to its variables.
    fn scope_around(&self, task: &Task) -> Scope {
        let mut scope: Scope = IN_TASK.iter().map(|&v| v.to_owned()).collect();
        let mut child = task;
        while let Some(parent) = child.parent.map(|index| self.workflow.task(index)) {
            match &parent.kind {
                TaskKind::For(each) => scope.extend([each.each.clone(), each.at.clone()]),
                TaskKind::Try(caught) if caught.handler.contains(&child.index) => {
                    scope.insert(caught.variable.clone());
                }
                _ => {}
            }
            child = parent;
        }
        scope
    }

    fn template(&mut self, task: Option<&Task>, template: Option<&Template>, scope: &Scope) {
        for text in template.map(Template::programs).unwrap_or_default() {
            self.text(task, Some(text), scope);
        }
    }

    fn delay(&mut self, task: Option<&Task>, delay: Option<&Delay>, scope: &Scope) {
        if let Some(Delay::Expression(text)) = delay {
            self.text(task, Some(text), scope);
        }
    }

    fn text(&mut self, task: Option<&Task>, text: Option<&Text>, scope: &Scope) {
        let Some((text, program)) = text.and_then(|t| t.program().map(|p| (t, p))) else { return };
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            return;
        }
        match self.evaluator.inspect(program) {
            Ok(inspection) => {
                // What helpers read for themselves begins with `__` and is always there.
                let own = |v: &&String| v.starts_with("__");
                for variable in inspection.variables.iter().filter(|v| !scope.contains(*v) && !own(v)) {
                    self.unknown_variable(task, text, program, variable, scope);
                }
            }
            Err(Error::Invalid { message, at }) => {
                let mut diagnostic =
                    Diagnostic::error(code::EXPRESSION_INVALID, format!("this is not a valid expression: {message}"));
                diagnostic.place = match at {
                    Some(at) => self.source.place_in(&text.pointer, program, at as usize, 1),
                    None => self.source.place(&text.pointer),
                };
                diagnostic = diagnostic.with_help(if program.contains("${") {
                    "one `${ }` holds the whole text: ${ \"Hello \\(.name)\" }"
                } else {
                    "write it in jq, with what a run can know: not the time, the machine or other input"
                });
                self.push(task, text, diagnostic);
            }
            Err(error @ Error::Budget { .. }) => {
                let mut diagnostic = Diagnostic::error(code::EXPRESSION_BUDGET, error.to_string());
                diagnostic.place = self.source.place(&text.pointer);
                diagnostic = diagnostic.with_help("a shorter one, or several tasks");
                self.push(task, text, diagnostic);
            }
        }
    }

    fn unknown_variable(&mut self, task: Option<&Task>, text: &Text, program: &str, variable: &str, scope: &Scope) {
        let (message, help) = if NOT_SUPPORTED.contains(&variable) {
            let help = Some("connections hold the secrets: declare one in metadata.bellhop.connections".to_owned());
            (format!("this version does not fill `${variable}` yet"), help)
        } else if variable == "output" {
            (
                String::from("`$output` is there in `export` only"),
                Some("in `output.as`, the task's output is `.`".to_owned()),
            )
        } else if let Some(where_) = self.elsewhere(variable) {
            (format!("`${variable}` does not exist here"), Some(where_))
        } else if variable == "error" {
            ("`$error` exists in a `catch` only".to_owned(), Some("use it in a task under `catch.do`".to_owned()))
        } else {
            let near =
                nearest(variable, scope.iter().map(String::as_str)).map(|near| format!("did you mean `${near}`?"));
            let all = || {
                if scope.is_empty() {
                    return "it is an expression on the input alone: `.`".to_owned();
                }
                let names: Vec<String> = scope.iter().map(|v| format!("`${v}`")).collect();
                format!("there are {}", names.join(", "))
            };
            (format!("there is no variable `${variable}`"), Some(near.unwrap_or_else(all)))
        };
        let mut diagnostic = Diagnostic::error(code::EXPRESSION_INVALID, message);
        let length = variable.chars().count() + 1;
        diagnostic.place = match position_of(program, variable) {
            Some(at) => self.source.place_in(&text.pointer, program, at, length),
            None => self.source.place(&text.pointer),
        };
        if let Some(help) = help {
            diagnostic = diagnostic.with_help(help);
        }
        self.push(task, text, diagnostic);
    }

    /// Where else in the definition `variable` exists.
    fn elsewhere(&self, variable: &str) -> Option<String> {
        self.workflow.tasks.iter().find_map(|task| match &task.kind {
            TaskKind::For(each) if each.each == variable || each.at == variable => {
                Some(format!("it exists in the `do` and `while` of `{}` only", task.name))
            }
            TaskKind::Try(caught) if caught.variable == variable => {
                Some(format!("it exists in the `catch` of `{}` only", task.name))
            }
            _ => None,
        })
    }

    fn push(&mut self, task: Option<&Task>, text: &Text, mut diagnostic: Diagnostic) {
        diagnostic.task = task.map(|t| t.pointer.clone());
        diagnostic.pointer = Some(text.pointer.clone());
        // What stands in `use` is read by every task that refers to it, and wrong once.
        if !self.diagnostics.iter().any(|d| d.pointer == diagnostic.pointer && d.message == diagnostic.message) {
            self.diagnostics.push(diagnostic);
        }
    }
}

fn with<'n>(scope: &'n Scope, names: impl IntoIterator<Item = &'n String>) -> Scope {
    scope.iter().chain(names).cloned().collect()
}

/// Where `$variable` stands in a program.
fn position_of(program: &str, variable: &str) -> Option<usize> {
    let wanted = format!("${variable}");
    program.match_indices(&wanted).map(|(at, _)| at).find(|at| {
        let after = program[at + wanted.len()..].chars().next();
        !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}
