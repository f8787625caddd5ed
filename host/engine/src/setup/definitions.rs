//! Workflows and their versions, bindings and tables: what operators register and runs pin.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::definition::source::Source;
use bellhop_core::definition::{self, Workflow, WorkflowName};
use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::digest::Digest;
use bellhop_core::preflight::Table;
use bellhop_core::schema::Schema;
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::installation;
use bellhop_journal::{self as journal, Journal, Write, key};

/// A definition as it was read, with what is compiled of it.
pub struct Definition {
    /// Of its text.
    pub digest: Digest,
    /// What it says.
    pub workflow: Arc<Workflow>,
    /// Where it says it.
    pub source: Source,
    /// Its schemas, by pointer.
    pub schemas: BTreeMap<String, Schema>,
}

/// A version as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredVersion {
    /// Of the text, which is a blob.
    pub digest: Digest,
    /// The name of the file that it came from, for diagnostics.
    pub file: String,
    /// When it was applied.
    pub applied_at: Timestamp,
}

/// Which version of a workflow is the latest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Current {
    /// The version.
    pub version: String,
    /// Of its text: what `If-Match` compares.
    pub digest: Digest,
}

/// A table's latest version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurrentTable {
    /// Counts from 1.
    pub version: u64,
    /// Of its JSON, which is a blob.
    pub digest: Digest,
}

/// Why a definition was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The document names another workflow than the address does.
    #[error("the document is `{document}`, the address says `{address}`")]
    OtherName {
        /// In the file.
        document: WorkflowName,
        /// Asked for.
        address: WorkflowName,
    },
    /// That version is there with another text.
    #[error("version {version} of `{name}` is there already with another text: a version once applied does not change")]
    Immutable {
        /// The workflow.
        name: WorkflowName,
        /// The version.
        version: String,
    },
    /// It has as many versions as a workflow may have.
    #[error("`{name}` has {max} versions, and no more may be")]
    TooMany {
        /// The workflow.
        name: WorkflowName,
        /// The limit.
        max: u64,
    },
    /// The caller's idea of the latest version is not right.
    #[error("the latest version is another one")]
    Precondition {
        /// What it is.
        current: Option<Current>,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// Why a table was not put. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PutTableError {
    /// The latest is not the one that was expected.
    #[error("the latest version is not the one that is expected")]
    Precondition {
        /// What there is.
        current: Option<CurrentTable>,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// What the caller of a put expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// That there is none yet.
    None,
    /// That the latest has this digest.
    Latest(Digest),
}

/// Definitions, bindings and tables over the journal. Parsed definitions are kept by digest.
pub struct Definitions {
    journal: Journal,
    installation: installation::Known,
    parsed: Mutex<HashMap<Digest, Arc<Definition>>>,
    /// One change at a time: a version check and its write are one step.
    changing: tokio::sync::Mutex<()>,
}

/// Parsed definitions kept in memory; more are parsed again when they are needed.
const PARSED_MAX: usize = 1_000;

/// Reads a definition and compiles its schemas.
pub fn read(file: &str, text: &str) -> (Option<Definition>, Source, Vec<Diagnostic>) {
    let (workflow, source, diagnostics) = definition::parse(file, text);
    let Some(workflow) = workflow else { return (None, source, diagnostics) };
    // The parser has compiled them once: what does not compile is a diagnostic, and there is no workflow.
    let schemas = workflow
        .schemas()
        .into_iter()
        .filter_map(|(pointer, schema)| Some((pointer, Schema::compile(schema).ok()?)))
        .collect();
    let definition = Definition {
        digest: Digest::of(text.as_bytes()),
        workflow: Arc::new(workflow),
        source: source.clone(),
        schemas,
    };
    (Some(definition), source, diagnostics)
}

impl Definitions {
    /// Over `journal`.
    pub fn new(journal: Journal) -> Self {
        Self {
            journal,
            installation: installation::Known::default(),
            parsed: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// The same, with as many versions of one workflow as the installation says.
    pub(crate) fn within(self, installation: installation::Known) -> Self {
        Self { installation, ..self }
    }

    /// Whether a workflow has as many versions as it may have.
    async fn is_full(&self, name: &WorkflowName) -> Result<bool, journal::Error> {
        let range = key::workflow_versions(&name.namespace, &name.name);
        let (mut found, max) = (0, self.installation.now().definition_versions_max);
        let mut all = self.journal.list::<StoredVersion>(key::Space::Workflow, &range);
        while let Some(read) = all.next().await {
            read?;
            found += 1;
            if found >= max {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The versions of a workflow, the oldest first.
    pub async fn versions(&self, name: &WorkflowName) -> Result<Vec<String>, journal::Error> {
        let range = key::workflow_versions(&name.namespace, &name.name);
        let mut all = self.journal.list::<StoredVersion>(key::Space::Workflow, &range).all().await?;
        all.sort_by_key(|(_, stored)| stored.applied_at);
        let version = |bytes: &[u8]| {
            let mut parts = key::Parts::of(key::Space::Workflow, bytes)?;
            let (_, _) = (parts.text()?, parts.text()?);
            parts.text()
        };
        Ok(all.iter().filter_map(|(bytes, _)| version(bytes)).collect())
    }

    /// Keeps a definition as the version that it names; says also whether that version is new. After Ok it is durable.
    pub async fn put(
        &self,
        address: &WorkflowName,
        definition: Definition,
        file: &str,
        text: &str,
        expect: &Expect,
        now: Timestamp,
    ) -> Result<(Arc<Definition>, bool), PutError> {
        let _one = self.changing.lock().await;
        let definition = Arc::new(definition);
        let mut tries = journal::Tries::default();
        let is_new = loop {
            match self.put_once(address, &definition, (file, text), expect, now).await {
                Err(PutError::Journal(error)) if tries.again(&error) => {}
                put => break put?,
            }
        };
        Ok((self.keep(definition), is_new))
    }

    /// As [`Self::put`], unless somebody else puts a version meanwhile: then the journal refuses it.
    async fn put_once(
        &self,
        address: &WorkflowName,
        definition: &Definition,
        (file, text): (&str, &str),
        expect: &Expect,
        now: Timestamp,
    ) -> Result<bool, PutError> {
        let document = &definition.workflow.document;
        if document.name != *address {
            return Err(PutError::OtherName { document: document.name.clone(), address: address.clone() });
        }
        // What is damaged is put anew.
        let current_key = key::workflow_current(&address.namespace, &address.name);
        let (current, seen_current) = self.journal.see::<Current>(&current_key).await;
        let current = journal::damaged_is_none(current)?;
        let version_key = key::workflow(&address.namespace, &address.name, &document.version);
        let (stored, seen_version) = self.journal.see::<StoredVersion>(&version_key).await;
        let stored = journal::damaged_is_none(stored)?;
        let met = match expect {
            Expect::Any => true,
            Expect::None => current.is_none(),
            Expect::Latest(digest) => current.as_ref().is_some_and(|c| c.digest == *digest),
        };
        if !met {
            return Err(PutError::Precondition { current });
        }
        if let Some(stored) = &stored {
            if stored.digest != definition.digest {
                return Err(PutError::Immutable { name: address.clone(), version: document.version.clone() });
            }
            let is_whole = journal::damaged_is_none(self.journal.blob(stored.digest).await)?.is_some();
            if is_whole && current.as_ref().is_some_and(|c| c.digest == stored.digest) {
                return Ok(false);
            }
        }
        if stored.is_none() && self.is_full(address).await? {
            return Err(PutError::TooMany {
                name: address.clone(),
                max: self.installation.now().definition_versions_max,
            });
        }
        self.journal.room()?;
        let mut write = Write::new();
        write.rests_on(seen_current);
        write.rests_on(seen_version);
        write.blob(text.as_bytes());
        let version = StoredVersion { digest: definition.digest, file: file.to_owned(), applied_at: now };
        write.put(&version_key, &version)?;
        let latest = Current { version: document.version.clone(), digest: definition.digest };
        write.put(&current_key, &latest)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        Ok(stored.is_none())
    }

    fn keep(&self, definition: Arc<Definition>) -> Arc<Definition> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if parsed.len() >= PARSED_MAX {
            parsed.clear();
        }
        parsed.insert(definition.digest, definition.clone());
        definition
    }

    /// The latest version of a workflow.
    pub async fn current(&self, name: &WorkflowName) -> Result<Option<Current>, journal::Error> {
        self.journal.get(&key::workflow_current(&name.namespace, &name.name)).await
    }

    /// One version, or the latest.
    pub async fn find(
        &self,
        name: &WorkflowName,
        version: Option<&str>,
    ) -> Result<Option<Arc<Definition>>, journal::Error> {
        let version = match version {
            Some(version) => version.to_owned(),
            None => match self.current(name).await? {
                Some(current) => current.version,
                None => return Ok(None),
            },
        };
        let stored: Option<StoredVersion> =
            self.journal.get(&key::workflow(&name.namespace, &name.name, &version)).await?;
        match stored {
            Some(stored) => self.by_digest(stored.digest, &stored.file).await,
            None => Ok(None),
        }
    }

    /// The definition whose text has this digest.
    pub async fn by_digest(&self, digest: Digest, file: &str) -> Result<Option<Arc<Definition>>, journal::Error> {
        if let Some(found) = self.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Some(found.clone()));
        }
        let fact = || format!("the text of the definition `{file}`");
        let Some(bytes) = self.journal.blob_of(digest, fact).await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        Ok(read(file, &text).0.map(|definition| self.keep(Arc::new(definition))))
    }

    /// The text of a version, as it was put.
    pub async fn text(&self, digest: Digest) -> Result<Option<Vec<u8>>, journal::Error> {
        self.journal.blob(digest).await
    }

    /// Connections by alias, as the operator bound them for a workflow.
    pub async fn bindings(&self, name: &WorkflowName) -> Result<BTreeMap<String, String>, journal::Error> {
        Ok(self.journal.get(&key::bindings(&name.namespace, &name.name)).await?.unwrap_or_default())
    }

    /// Sets them. After Ok they are durable.
    pub async fn bind(&self, name: &WorkflowName, bindings: &BTreeMap<String, String>) -> Result<(), journal::Error> {
        self.journal.room()?;
        let mut write = Write::new();
        write.put(&key::bindings(&name.namespace, &name.name), bindings)?;
        let ticket = self.journal.commit(write)?;
        Ok(self.journal.durable(ticket).await?)
    }

    /// All workflows: name, latest version.
    pub async fn all(&self) -> Result<Vec<(WorkflowName, Current)>, journal::Error> {
        let mut found = Vec::new();
        let range = key::all(key::Space::WorkflowCurrent);
        for (bytes, current) in self.journal.list::<Current>(key::Space::WorkflowCurrent, &range).all().await? {
            let name = key::Parts::of(key::Space::WorkflowCurrent, &bytes)
                .and_then(|mut parts| Some(WorkflowName { namespace: parts.text()?, name: parts.text()? }));
            found.extend(name.map(|name| (name, current)));
        }
        Ok(found)
    }

    /// Puts a table's next version. After Ok it is durable; gives what is there then.
    pub async fn put_table(&self, name: &str, table: &Table, expect: &Expect) -> Result<CurrentTable, PutTableError> {
        let _one = self.changing.lock().await;
        let mut tries = journal::Tries::default();
        loop {
            match self.put_table_once(name, table, expect).await {
                Err(PutTableError::Journal(error)) if tries.again(&error) => {}
                put => return put,
            }
        }
    }

    /// As [`Self::put_table`], unless somebody else puts a version meanwhile: then the journal refuses it.
    async fn put_table_once(&self, name: &str, table: &Table, expect: &Expect) -> Result<CurrentTable, PutTableError> {
        // One whose record is damaged is put anew, from its first version on.
        let (current, seen) = self.journal.see::<CurrentTable>(&key::table_current(name)).await;
        let current = journal::damaged_is_none(current)?;
        let met = match expect {
            Expect::Any => true,
            Expect::None => current.is_none(),
            Expect::Latest(digest) => current.as_ref().is_some_and(|c| c.digest == *digest),
        };
        if !met {
            return Err(PutTableError::Precondition { current });
        }
        let text = serde_json::to_vec(table).unwrap_or_default();
        let digest = Digest::of(&text);
        let is_whole = journal::damaged_is_none(self.journal.blob(digest).await)?.is_some();
        if let Some(current) = current.as_ref().filter(|c| is_whole && c.digest == digest) {
            return Ok(current.clone());
        }
        let next = CurrentTable { version: current.map_or(1, |c| c.version + 1), digest };
        self.journal.room()?;
        let mut write = Write::new();
        write.rests_on(seen);
        write.blob(&text);
        write.put(&key::table(name, next.version), &next)?;
        write.put(&key::table_current(name), &next)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        Ok(next)
    }

    /// A table's latest version.
    pub async fn table(&self, name: &str) -> Result<Option<(CurrentTable, Table)>, journal::Error> {
        let Some(current) = self.journal.get::<CurrentTable>(&key::table_current(name)).await? else { return Ok(None) };
        Ok(self.table_by_digest(current.digest).await?.map(|table| (current, table)))
    }

    /// The table whose JSON has this digest.
    pub async fn table_by_digest(&self, digest: Digest) -> Result<Option<Table>, journal::Error> {
        let fact = || "the content of a table".to_owned();
        let Some(bytes) = self.journal.blob_of(digest, fact).await? else { return Ok(None) };
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// The names of all tables with their versions.
    pub async fn tables(&self) -> Result<Vec<(String, CurrentTable)>, journal::Error> {
        let mut found = Vec::new();
        let range = key::all(key::Space::TableCurrent);
        for (bytes, current) in self.journal.list::<CurrentTable>(key::Space::TableCurrent, &range).all().await? {
            let name = key::Parts::of(key::Space::TableCurrent, &bytes).and_then(|mut parts| parts.text());
            found.extend(name.map(|name| (name, current)));
        }
        Ok(found)
    }

    /// Tables as expressions want them.
    pub fn for_expressions(tables: &BTreeMap<String, Table>) -> Value {
        serde_json::to_value(tables).unwrap_or(Value::Null)
    }
}
