//! `strait schema`: proposes the CREATE TABLE statement of a final table that has no definition yet, for a person to check and
//! run. It reads, and it must never create or alter anything; what it prints holds counts and forms, and no row value.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use strait::bigquery::connect::connect;
use strait::bigquery::job::{JobRequest, QueryAnswer};
use strait::bigquery::rest::BigQuery;
use strait::config::{Config, ConfigError};
use strait::lambda::{self, InvocationError};
use strait::mask::MaskAction;
use strait::merge::final_table::check_masked_key;
use strait::merge::proposal::choice::{self, Choice};
use strait::merge::proposal::create_table::{Proposal, ProposalError, ProposedColumn};
use strait::merge::proposal::evidence::{self, KeyEvidence, LoggedTable, Member, Survey};
use strait::merge::proposal::information_schema::{self, CatalogueError};
use strait::merge::proposal::key::{self, Candidate};
use strait::merge::types::ColumnType;
use strait::merge::types::map::Engine;
use strait::names::{NameError, SourceTable, fingerprint};
use tokio::time::Instant;

use crate::terminal::Terminal;

/// For all queries together; a log of many gigabytes takes a minute.
const TIME_LIMIT: Duration = Duration::from_secs(600);
/// So many columns are counted in one query: each adds to the text of a statement, which BigQuery limits to 1 MB.
const COLUMNS_AT_ONCE: usize = 200;

/// What a person asked for.
#[derive(Debug, Clone)]
pub struct SchemaOptions {
    /// `schema.table` at the source.
    pub table: String,
    /// Where the proposal comes from.
    pub basis: Basis,
}

/// Where a proposal comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The values in the log.
    Log,
    /// The source's information_schema: a file with the output of the query that [`Basis::Query`] prints, `-` for standard input.
    Source {
        /// Whose catalogue it is.
        engine: Engine,
        /// The file.
        columns: PathBuf,
    },
    /// Nothing is proposed: the query to run at the source is printed.
    Query(Engine),
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Not `schema.table`.
    #[error("`{0}` is not of the form SCHEMA.TABLE")]
    NotATable(String),
    /// The STRAIT_* variables.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The connection.
    #[error(transparent)]
    Connect(InvocationError),
    /// A call of BigQuery's; the text says what to do.
    #[error("{0}")]
    BigQuery(String),
    /// The columns' list.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The proposal.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl From<strait::bigquery::error::Error> for SchemaError {
    fn from(error: strait::bigquery::error::Error) -> Self {
        Self::BigQuery(InvocationError::describe(&error))
    }
}

/// Prints a proposal. False if there is nothing to make one of; that is said on standard error.
///
/// # Errors
/// [`SchemaError`]; its text says what to do.
pub async fn run(options: SchemaOptions, terminal: &Terminal) -> Result<bool, SchemaError> {
    let source = SourceTable::named(&options.table).ok_or_else(|| SchemaError::NotATable(options.table.clone()))?;
    let script = match &options.basis {
        Basis::Query(engine) => Some(information_schema::query(*engine, &source.schema, &source.table)),
        Basis::Source { engine, columns } => Some(of_catalogue(&read_config()?, &source, *engine, &read(columns)?)?),
        Basis::Log => of_log(&read_config()?, &source, terminal).await?,
    };
    let Some(script) = script else {
        return Ok(false);
    };
    terminal.line(script.trim_end());
    Ok(true)
}

/// The configuration in the environment.
pub(crate) fn read_config() -> Result<Config, ConfigError> {
    let readable = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    Config::from_vars(readable)
}

fn read(path: &Path) -> Result<String, SchemaError> {
    let mut text = String::new();
    let outcome = if path == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    outcome.map_err(|source| SchemaError::Read { path: path.to_path_buf(), source })
}

fn of_catalogue(config: &Config, source: &SourceTable, engine: Engine, output: &str) -> Result<String, SchemaError> {
    let (columns, key) = information_schema::propose(engine, &information_schema::read(output)?);
    let key_comments = match key.as_slice() {
        [] => vec![
            "The source declares no primary key: every row is added once, and none is changed.".to_owned(),
            "If there are columns that identify a row, write PRIMARY KEY (…) NOT ENFORCED here, without the label below.".to_owned(),
        ],
        _ => vec!["The primary key that the source declares.".to_owned()],
    };
    let comments = vec![format!(
        "Proposed for {source} from the source's information_schema. Check it, then run it: the next merge fills the table."
    )];
    let is_keyless = key.is_empty();
    script(config, source, columns, key, is_keyless, comments, key_comments)
}

fn script(
    config: &Config,
    source: &SourceTable,
    mut columns: Vec<ProposedColumn>,
    key: Vec<usize>,
    is_keyless: bool,
    comments: Vec<String>,
    key_comments: Vec<String>,
) -> Result<String, SchemaError> {
    for place in &key {
        if let Some(column) = columns.get_mut(*place)
            && key::key_type(column.column_type) != column.column_type
        {
            column.comments.push("The hexadecimal text, for BigQuery declares no key of BYTES.".to_owned());
            column.column_type = key::key_type(column.column_type);
        }
    }
    let name = config.final_table.name_of(source);
    let (columns, key) = masked(config, source, columns, key)?;
    let proposal = Proposal {
        project: &config.project,
        location: &config.location,
        name,
        source,
        columns,
        key,
        comments,
        key_comments,
        is_keyless,
        deletes: config.deletes,
    };
    Ok(proposal.script()?)
}

/// The columns as STRAIT_MASK leaves them, and the places of the key's among them.
fn masked(
    config: &Config,
    source: &SourceTable,
    columns: Vec<ProposedColumn>,
    key: Vec<usize>,
) -> Result<(Vec<ProposedColumn>, Vec<usize>), SchemaError> {
    let name = config.final_table.name_of(source);
    let members: Vec<String> =
        key.iter().filter_map(|place| columns.get(*place)).map(|column| column.member.clone()).collect();
    check_masked_key(&name, source, members.iter().map(String::as_str), &config.mask).map_err(ProposalError::from)?;
    let mut left = Vec::with_capacity(columns.len());
    for mut column in columns {
        match config.mask.action(&source.schema, &source.table, &column.member) {
            Some(MaskAction::Drop) => continue,
            Some(action) => {
                column.column_type = ColumnType::String;
                column.comments.push(format!("STRAIT_MASK: {}", action.as_str()));
            }
            None => {}
        }
        left.push(column);
    }
    let places = members.iter().filter_map(|member| left.iter().position(|column| column.member == *member)).collect();
    Ok((left, places))
}

/// The queries of one proposal.
struct Queries<'a> {
    bigquery: BigQuery,
    config: &'a Config,
    logged: LoggedTable<'a>,
    /// Makes the jobs this run's own: a later one finds another log.
    run: String,
    deadline: Instant,
}

impl Queries<'_> {
    async fn answer(&self, sql: String) -> Result<QueryAnswer, SchemaError> {
        let id = format!("strait_schema_{}", fingerprint(&format!("{}\0{sql}", self.run), 24));
        let request = JobRequest {
            max_bytes_billed: self.config.max_bytes_billed,
            labels: [("strait".to_owned(), "schema".to_owned())].into(),
            ..JobRequest::new(sql, id)
        };
        Ok(self.bigquery.run_query(&request, self.deadline).await?)
    }

    async fn survey(&self) -> Result<Survey, SchemaError> {
        let mut survey = Survey::read(&self.answer(self.logged.survey()?).await?);
        if survey.controls > 0 && survey.loads > 0 {
            survey.read_loads(&self.answer(self.logged.loads()?).await?);
        }
        Ok(survey)
    }

    async fn columns(&self, survey: &Survey, members: &[Member]) -> Result<Vec<evidence::ColumnEvidence>, SchemaError> {
        let mut columns = Vec::with_capacity(members.len());
        for some in members.chunks(COLUMNS_AT_ONCE) {
            let answer = self.answer(self.logged.forms(some)?).await?;
            columns.extend(evidence::read_forms(&answer, survey, some));
        }
        Ok(columns)
    }

    async fn tried(
        &self,
        survey: &Survey,
        members: &[Member],
        candidates: Vec<Candidate>,
    ) -> Result<Vec<(Candidate, Option<KeyEvidence>)>, SchemaError> {
        if candidates.is_empty() || survey.rows() == 0 {
            return Ok(candidates.into_iter().map(|candidate| (candidate, None)).collect());
        }
        let places: Vec<Vec<usize>> = candidates.iter().map(|candidate| candidate.places.clone()).collect();
        let answer = self.answer(self.logged.keys(survey, members, &places)?).await?;
        Ok(candidates.into_iter().zip(evidence::read_keys(&answer, places.len())).collect())
    }

    async fn key(
        &self,
        survey: &Survey,
        members: &[Member],
        columns: &[evidence::ColumnEvidence],
        choices: &[Choice],
    ) -> Result<key::KeyChoice, SchemaError> {
        let mut tried = self.tried(survey, members, key::candidates(survey, columns, choices)).await?;
        if !tried.iter().any(|(_, evidence)| key::can_be_key(evidence.as_ref())) {
            let pairs = self.tried(survey, members, key::pairs(&tried)).await?;
            tried.extend(pairs);
        }
        Ok(key::choose(survey, columns, choices, &tried))
    }
}

/// `None` if the log holds nothing to make a table of.
async fn of_log(config: &Config, source: &SourceTable, terminal: &Terminal) -> Result<Option<String>, SchemaError> {
    lambda::install_tls();
    let queries = Queries {
        bigquery: connect(config).await.map_err(SchemaError::Connect)?.rest,
        config,
        logged: LoggedTable { project: &config.project, log: &config.log_table, source },
        run: Timestamp::now().to_string(),
        deadline: Instant::now() + TIME_LIMIT,
    };
    let log = &config.log_table;
    if queries.bigquery.get_table(log, queries.deadline).await?.is_none() {
        terminal
            .error(&format!("there is no log {log} in the project {}: nothing has been appended yet", config.project));
        return Ok(None);
    }
    let survey = queries.survey().await?;
    if survey.images() == 0 {
        terminal.error(&nothing(&survey, config, source));
        return Ok(None);
    }
    let members = evidence::read_members(&queries.answer(queries.logged.members()?).await?);
    let columns = queries.columns(&survey, &members).await?;
    let choices: Vec<Choice> = columns.iter().map(choice::choose).collect();
    let key = queries.key(&survey, &members, &columns, &choices).await?;

    let name = config.final_table.name_of(source);
    if queries.bigquery.get_table(&name, queries.deadline).await?.is_some() {
        terminal.error(&format!("{name} exists already: the proposal shows what the log's values would need"));
    }
    let proposed = columns
        .iter()
        .zip(choices)
        .map(|(column, choice)| ProposedColumn {
            member: column.member.clone(),
            column_type: choice.column_type,
            comments: [choice.seen].into_iter().chain(choice.hint).filter(|text| !text.is_empty()).collect(),
        })
        .collect();
    Ok(Some(script(config, source, proposed, key.places, false, comments(&survey, config, source), key.words)?))
}

fn comments(survey: &Survey, config: &Config, source: &SourceTable) -> Vec<String> {
    let mut comments = vec![
        format!("Proposed for {source} from what {} holds: {}.", config.log_table, tally(survey)),
        "Every type holds every one of these values exactly. What has not come yet, the log cannot show.".to_owned(),
        "Check it, then run it: the next merge fills the table.".to_owned(),
    ];
    if survey.unreadable > 0 {
        comments.push(format!("{} records that could not be decoded are not among them.", survey.unreadable));
    }
    comments
}

fn tally(survey: &Survey) -> String {
    let operations =
        [(survey.loads, "load"), (survey.inserts, "insert"), (survey.updates, "update"), (survey.deletes, "delete")];
    let counts: Vec<String> =
        operations.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    counts.join(", ")
}

/// Why there is nothing to make a table of, and what to do.
fn nothing(survey: &Survey, config: &Config, source: &SourceTable) -> String {
    let log = &config.log_table;
    let what = if survey.deletes > 0 || survey.unreadable > 0 {
        format!(
            "{log} holds no row of {source}: only {} deletes and {} records that could not be decoded",
            survey.deletes, survey.unreadable
        )
    } else if survey.controls > 0 {
        format!("{log} holds no row of {source}, only control records")
    } else if !config.tables.matches(&source.schema, &source.table) {
        return format!("{log} holds nothing of {source}, which STRAIT_TABLES leaves out");
    } else {
        format!("{log} holds nothing of {source}; is the name right, in the source's own spelling?")
    };
    format!(
        "{what}\nA proposal can also be made from the source's information_schema: strait schema {source} --print-query mysql (or postgres)"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use strait::mask::MaskRules;

    use super::*;

    fn config(tables: &str) -> Config {
        let variables = [
            ("STRAIT_PROJECT", "p"),
            ("STRAIT_TABLES", tables),
            ("STRAIT_BIGQUERY_REST_URL", "http://127.0.0.1:1"),
            ("STRAIT_BIGQUERY_GRPC_URL", "http://127.0.0.1:1"),
        ];
        Config::from_vars(variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap()
    }

    fn orders() -> SourceTable {
        SourceTable { schema: "shop".into(), table: "orders".into() }
    }

    #[test]
    fn a_log_without_rows_says_which_case_it_is() {
        let said = |survey: Survey, tables: &str| nothing(&survey, &config(tables), &orders());
        assert!(said(Survey::default(), "*").contains("spelling"));
        assert!(said(Survey::default(), "*,!shop.*").contains("STRAIT_TABLES leaves out"));
        assert!(said(Survey { controls: 1, ..Survey::default() }, "*").contains("only control records"));
        assert!(said(Survey { deletes: 2, ..Survey::default() }, "*").contains("only 2 deletes"));
    }

    #[test]
    fn masked_columns_are_proposed_as_they_will_come() {
        let output = "column_name,data_type,numeric_precision,numeric_scale,key_position\n\
                      card,bigint,,,\nid,bigint,,,1\nborn,date,,,\nnote,text,,,\n";
        let with = |mask: &str| {
            let mask = MaskRules::parse(mask).unwrap();
            of_catalogue(&Config { mask, ..config("*") }, &orders(), Engine::MySql, output)
        };
        let script = with("shop.orders.CARD=drop,shop.orders.id=hash,*.*.born=redact").unwrap();
        for line in [
            "  -- STRAIT_MASK: hash",
            "  `id` STRING NOT NULL,",
            "  `born` STRING,",
            "  PRIMARY KEY (`id`) NOT ENFORCED",
        ] {
            assert!(script.lines().any(|given| given == line), "{line} in\n{script}");
        }
        assert!(!script.contains("card"), "{script}");
        for action in ["drop", "redact"] {
            let error = with(&format!("shop.orders.id={action}")).unwrap_err().to_string();
            assert!(
                error.contains("the key column id of replica.shop_orders") && error.contains("use hash"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_catalogue_becomes_a_statement_with_the_sources_types_and_key() {
        let output = "column_name,data_type,numeric_precision,numeric_scale,key_position\n\
                      id,binary(16),,,1\nplaced_at,datetime(6),,,\ntotal,\"decimal(12,2)\",12,2,\n";
        let script = of_catalogue(&config("*"), &orders(), Engine::MySql, output).unwrap();
        for line in [
            "  -- decimal(12,2) in the source",
            "  `total` NUMERIC(12, 2),",
            "  `placed_at` DATETIME,",
            "  `id` STRING NOT NULL,",
            "  PRIMARY KEY (`id`) NOT ENFORCED",
            "CLUSTER BY `id`;",
        ] {
            assert!(script.lines().any(|given| given == line), "{line} in\n{script}");
        }
    }
}
