//! What is wrong with aliases, connection expressions and tables, in words.

use serde_json::json;

use super::alias::{self, Choice, NamedBy, Resolution};
use super::flow::Reach;
use super::say::{self, AUTHOR, OPERATOR, Subject, There};
use super::whole::Judge;
use crate::definition::{ACTION_NAMESPACE, Call, TaskKind};
use crate::diagnostic::{Diagnostic, Has, HttpRemedy, Needs, Remedy, Retryable, code, nearest};
use crate::requirement::{Connection, Kind};
use crate::text::shell_word;

impl Judge<'_> {
    pub(super) fn alias_fault(
        &self,
        subject: &Subject,
        alias: Option<&str>,
        fault: &Resolution,
        accepted: &[Kind],
    ) -> Diagnostic {
        let present = self.question.connections;
        let name = self.question.workflow.document.name.to_string();
        let bind = |to: &str| {
            if self.question.workflow.document.name.namespace == ACTION_NAMESPACE {
                return self.name_in_action_run(to);
            }
            let alias = alias.unwrap_or("ALIAS");
            Remedy {
                title: "say which".to_owned(),
                command: Some(format!("bellhop workflows bind {name} {}", shell_word(&format!("{alias}={to}")))),
                http: Some(HttpRemedy {
                    method: "PUT".to_owned(),
                    path: format!("/v1/workflows/{name}/bindings"),
                    body: json!({alias: to}),
                }),
            }
        };
        let called = alias.map_or_else(|| subject.what.clone(), |a| format!("alias `{a}`"));
        match fault {
            Resolution::Unknown { name: unknown, by } => {
                let named = match by {
                    NamedBy::Trigger => "the trigger",
                    NamedBy::Binding => "the operator's binding",
                    NamedBy::Table => "a table",
                };
                let near = nearest(unknown, present.iter().map(|c| c.name.as_str()));
                Diagnostic {
                    connection: Some(unknown.clone()),
                    needs: Some(Needs { text: Some("the name of a connection".to_owned()), ..Needs::default() }),
                    has: Some(Has {
                        text: Some(format!(
                            "connections {}",
                            say::list(&present.iter().map(|c| format!("`{}`", c.name)).collect::<Vec<_>>())
                        )),
                        ..Has::default()
                    })
                    .filter(|_| !present.is_empty()),
                    retryable: Retryable::AfterRemedy,
                    who: Some(OPERATOR.to_owned()),
                    remedies: match (near, by) {
                        // A binding stands below what the trigger says: it would not be looked at.
                        (Some(near), NamedBy::Trigger) => vec![Remedy {
                            title: format!("name `{near}` in the trigger"),
                            command: Some(format!(
                                "bellhop run {name} --connection {}",
                                shell_word(&format!("{}={near}", alias.unwrap_or("ALIAS")))
                            )),
                            http: None,
                        }],
                        (near, _) => near.map(bind).into_iter().collect(),
                    },
                    ..subject.error(
                        code::CONNECTION_UNKNOWN,
                        format!("{named} says that {called} is connection `{unknown}`, which is not there"),
                    )
                }
            }
            Resolution::Ambiguous(candidates) => {
                let names: Vec<String> = candidates.iter().map(|i| format!("`{}`", present[*i].name)).collect();
                Diagnostic {
                    label: Some(format!("could be {}", names.join(" or "))),
                    needs: Some(Needs { text: Some(format!("one connection for {called}")), ..Needs::default() }),
                    has: Some(Has { text: Some(say::list(&names)), ..Has::default() }),
                    retryable: Retryable::AfterRemedy,
                    who: Some(OPERATOR.to_owned()),
                    remedies: candidates
                        .iter()
                        .map(|i| present[*i].name.as_str())
                        .find(|name| alias.is_some_and(|alias| nearest(alias, [*name]).is_some()))
                        .or_else(|| candidates.first().map(|i| present[*i].name.as_str()))
                        .map(bind)
                        .into_iter()
                        .collect(),
                    ..subject.error(code::CONNECTION_AMBIGUOUS, format!("several connections would do for {called}"))
                }
            }
            Resolution::Missing | Resolution::Nothing | Resolution::To(_) => {
                let kinds = if accepted.is_empty() { Kind::ALL.to_vec() } else { accepted.to_vec() };
                let remedy = say::connect(kinds[0], alias.unwrap_or("slack"), None, present);
                Diagnostic {
                    label: Some("needs a connection".to_owned()),
                    needs: Some(say::kinds(&kinds)),
                    has: Some(Has { text: Some("no connection".to_owned()), ..Has::default() }),
                    retryable: Retryable::AfterRemedy,
                    who: Some(say::owner_of(kinds[0]).to_owned()),
                    remedies: vec![remedy],
                    ..subject.error(code::CONNECTION_MISSING, format!("there is no connection for {called}"))
                }
            }
        }
    }

    /// A run of a single action has no bindings: its trigger says on which connection.
    fn name_in_action_run(&self, to: &str) -> Remedy {
        let action = self.question.workflow.tasks.iter().find_map(|task| match &task.kind {
            TaskKind::Call(call) => Some(call.reference.to_string()),
            _ => None,
        });
        let action = action.unwrap_or_default();
        Remedy {
            title: "say which".to_owned(),
            command: Some(format!("bellhop action run {} --connection {}", shell_word(&action), shell_word(to))),
            http: Some(HttpRemedy {
                method: "POST".to_owned(),
                path: format!("/v1/actions/{action}/runs"),
                body: json!({ "connection": to }),
            }),
        }
    }

    /// `offered` are the kinds on which what is called can do its work: to connect another one would end nothing.
    pub(super) fn wrong_kind(
        &self,
        subject: &Subject,
        alias: &str,
        connection: &Connection,
        (accepted, offered): (&[Kind], &[Kind]),
    ) -> Diagnostic {
        let what = if alias.is_empty() { subject.what.clone() } else { format!("alias `{alias}`") };
        let there = There { present: self.question.connections, accepted };
        let mut wanted: Vec<Kind> = accepted.iter().copied().filter(|kind| offered.contains(kind)).collect();
        if wanted.is_empty() {
            wanted.push(connection.kind);
        }
        Diagnostic {
            connection: Some(connection.name.clone()),
            needs: Some(say::kinds(accepted)),
            has: Some(Has {
                kind: Some(connection.kind),
                title: Some(connection.kind.title().to_owned()),
                ..Has::default()
            }),
            retryable: Retryable::AfterRemedy,
            who: Some(there.who(wanted[0], &wanted)),
            remedies: there.connecting(connection, &wanted),
            ..subject.error(
                code::CONNECTION_KIND,
                format!("{what} cannot be connection `{}`: the file accepts other kinds", connection.name),
            )
        }
    }

    pub(super) fn choice_fault(&self, subject: &Subject, choice: &Choice, call: &Call) -> Diagnostic {
        let place = self.question.source.place(&format!("{}/with/connection", call.pointer));
        let subject = Subject { place: place.or_else(|| subject.place.clone()), reach: Reach::All, ..subject.clone() };
        match choice {
            Choice::TableUnknown(table) => self.unknown_table(&subject, table),
            Choice::ColumnUnknown(table, column) => {
                let columns = self.question.tables.get(table).into_iter().flat_map(|t| &t.columns);
                let of_connections: Vec<String> = columns
                    .filter(|(_, kind)| **kind == alias::Column::Connection)
                    .map(|(name, _)| format!("`{name}`"))
                    .collect();
                Diagnostic {
                    needs: Some(Needs { text: Some("a column of type connection".to_owned()), ..Needs::default() }),
                    has: Some(Has {
                        text: Some(if of_connections.is_empty() {
                            "no such column".to_owned()
                        } else {
                            say::list(&of_connections)
                        }),
                        ..Has::default()
                    }),
                    retryable: Retryable::AfterRemedy,
                    who: Some(OPERATOR.to_owned()),
                    ..subject.error(
                        code::TABLE_COLUMN_UNKNOWN,
                        format!("table `{table}` has no column `{column}` of type connection"),
                    )
                }
            }
            Choice::NotStatic | Choice::Only | Choice::Aliases { .. } => Diagnostic {
                label: Some("may give anything".to_owned()),
                needs: Some(Needs {
                    text: Some(
                        "an alias; or an expression of literals, `if`, `{…}[…] // \"…\"`, or a table's column of type \
                         connection"
                            .to_owned(),
                    ),
                    ..Needs::default()
                }),
                who: Some(AUTHOR.to_owned()),
                ..subject.error(
                    code::CONNECTION_NOT_STATIC,
                    format!("which connections {} may run on cannot be told", subject.what),
                )
            },
        }
    }

    pub(super) fn unknown_table(&self, subject: &Subject, table: &str) -> Diagnostic {
        let near = nearest(table, self.question.tables.keys().map(String::as_str));
        Diagnostic {
            label: near.map(|n| format!("did you mean `{n}`?")),
            retryable: Retryable::AfterRemedy,
            who: Some(OPERATOR.to_owned()),
            remedies: vec![Remedy {
                title: "put it".to_owned(),
                command: Some(format!("bellhop tables put {} FILE", shell_word(table))),
                http: Some(HttpRemedy {
                    method: "PUT".to_owned(),
                    path: format!("/v1/tables/{table}"),
                    body: json!({}),
                }),
            }],
            ..subject.error(code::TABLE_UNKNOWN, format!("there is no table `{table}`"))
        }
    }
}
