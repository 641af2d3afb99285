//! How fast the database alone takes the rows that the server wrote: the same tables, indexes and settings, one thread
//! that has nothing else to do, and always a full batch for the next commit.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use serde::{Deserialize, Serialize};

/// What a message is made of. A row of the second table goes with each row of the first.
const TABLES: [&str; 2] = ["messages", "journal"];

/// As the server sets its writing connection.
const SETTINGS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -65536;
    PRAGMA temp_store = MEMORY;";

/// What to write where.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The server's database
    #[arg(long, value_name = "FILE")]
    from: PathBuf,

    /// The new database
    #[arg(long, value_name = "FILE")]
    to: PathBuf,

    /// Messages to a commit
    #[arg(long, default_value_t = 256, value_name = "COUNT")]
    batch: usize,

    /// At most so many messages
    #[arg(long, default_value_t = 100_000, value_name = "COUNT")]
    limit: usize,
}

/// How fast it went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommitsReport {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
}

/// Rows of one table, and how to insert one.
struct Rows {
    insert: String,
    rows: Vec<Vec<Value>>,
}

/// Writes, and tells how long it took on standard output, as JSON.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let from = Connection::open_with_flags(&options.from, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot open {}", options.from.display()))?;
    let to = Connection::open(&options.to).with_context(|| format!("cannot make {}", options.to.display()))?;
    to.execute_batch(SETTINGS)?;
    copy_schema(&from, &to)?;
    let [messages, events] = TABLES.map(|table| read(&from, table, options.limit));
    let (messages, events) = (messages?, events?);
    let count = messages.rows.len().min(events.rows.len());
    ensure!(count > 0, "{} holds no messages", options.from.display());

    let begun = Instant::now();
    let pairs: Vec<_> = messages.rows.iter().zip(&events.rows).collect();
    for batch in pairs.chunks(options.batch) {
        to.execute_batch("BEGIN IMMEDIATE")?;
        for (message, event) in batch {
            to.prepare_cached(&messages.insert)?.execute(params_from_iter(message.iter()))?;
            to.prepare_cached(&events.insert)?.execute(params_from_iter(event.iter()))?;
        }
        to.execute_batch("COMMIT")?;
    }
    let report = CommitsReport { messages: count as u64, seconds: begun.elapsed().as_secs_f64() };
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}

fn copy_schema(from: &Connection, to: &Connection) -> anyhow::Result<()> {
    for table in TABLES {
        // Tables before their indexes.
        let mut schema = from.prepare(
            "SELECT sql FROM sqlite_master WHERE tbl_name = ?1 AND sql IS NOT NULL ORDER BY type = 'table' DESC",
        )?;
        let statements = schema.query_map([table], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        to.execute_batch(&statements.join(";"))?;
    }
    Ok(())
}

/// The newest rows of a table, in the order in which they were written.
fn read(from: &Connection, table: &str, limit: usize) -> anyhow::Result<Rows> {
    let newest = format!("SELECT rowid AS written, * FROM {table} ORDER BY rowid DESC LIMIT {limit}");
    let mut statement = from.prepare(&format!("SELECT * FROM ({newest}) ORDER BY written"))?;
    let columns: Vec<_> = statement.column_names().into_iter().skip(1).map(str::to_owned).collect();
    let rows = statement.query_map([], |row| (1..=columns.len()).map(|column| row.get(column)).collect())?;
    let rows = rows.collect::<Result<_, _>>()?;
    let places = vec!["?"; columns.len()].join(", ");
    let insert = format!("INSERT INTO {table} ({}) VALUES ({places})", columns.join(", "));
    Ok(Rows { insert, rows })
}
