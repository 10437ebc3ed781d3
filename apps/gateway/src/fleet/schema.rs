//! Makes the tables and functions of the database, or brings them up to date.

use super::database::{Database, DatabaseError};

/// Each takes the database from one version to the next. One that was released is never changed.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// Several gateways start at once: one of them does it. Making tables may wait for that, and take longer than a
/// statement otherwise may.
const BEGIN: &str = "BEGIN;
    SET LOCAL statement_timeout = 60000;
    SELECT pg_advisory_xact_lock(7297624, 0);
    CREATE SCHEMA IF NOT EXISTS peerwatt;
    CREATE TABLE IF NOT EXISTS peerwatt.version (version integer NOT NULL)";

pub(super) async fn migrate(database: &Database) -> Result<(), DatabaseError> {
    #[cfg(test)]
    let _still = crate::tests::TimeStandsStill::new();
    let client = database.client().await?;
    let doing = "make its tables";
    let problem = |cause| DatabaseError::Statement { doing, cause };
    let done = async {
        client.batch_execute(BEGIN).await.map_err(problem)?;
        let row = client.query_opt("SELECT max(version) FROM peerwatt.version", &[]).await;
        let found: Option<i32> =
            row.map_err(problem)?.and_then(|row| row.try_get(0).ok().flatten());
        let found = found.unwrap_or_default();
        let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
        if found > known {
            return Err(DatabaseError::Version { found, known });
        }
        for (version, migration) in (1_i32..).zip(MIGRATIONS).skip_while(|(it, _)| *it <= found) {
            client.batch_execute(migration).await.map_err(problem)?;
            let insert = "INSERT INTO peerwatt.version (version) VALUES ($1)";
            client.execute(insert, &[&version]).await.map_err(problem)?;
        }
        client.batch_execute("COMMIT").await.map_err(problem)
    };
    let done = done.await;
    if done.is_err() {
        // Its transaction ends with it.
        drop(deadpool_postgres::Object::take(client));
    }
    done
}
