// The query of bench/views/delays_by_hour.json in DuckDB, over the same flights.
//
//     node duckdb.mjs parquet FILE THREADS OUT              writes JSON lines as Parquet
//     node duckdb.mjs query FILES THREADS ROWS [DATABASE]   FILES: a pattern, .jsonl, .zst or .parquet
//
// `query` prints one line: seconds until the result is a table, CPU seconds, records, groups. ROWS is a
// file for the result as CSV: window, keys, measures. The table is in memory, or in the file DATABASE,
// and then the time goes on until it is written there.
import { DuckDBInstance } from '@duckdb/node-api'

// Named, so that nothing is spent on finding out what the lines look like.
const COLUMNS =
  "{time: 'TIMESTAMP', delay: 'BIGINT', distance: 'BIGINT', origin: 'VARCHAR', destination: 'VARCHAR'}"
const quote = (text) => `'${text.replaceAll("'", "''")}'`
const lines = (files) => `read_json(${quote(files)}, format = 'newline_delimited', columns = ${COLUMNS})`

const [command, files, threads, out, database] = process.argv.slice(2)
const instance = await DuckDBInstance.create(database ?? ':memory:', { threads })
const connection = await instance.connect()
await connection.run('SET preserve_insertion_order = false')

if (command === 'parquet') {
  await connection.run(`COPY (FROM ${lines(files)}) TO ${quote(out)} (FORMAT parquet)`)
} else {
  const from = files.endsWith('.parquet') ? `read_parquet(${quote(files)})` : lines(files)
  const cpu = process.cpuUsage()
  const start = process.hrtime.bigint()
  await connection.run(`
    CREATE TABLE result AS
    SELECT date_trunc('hour', time) AS window_start, origin,
           count(*) AS flights, count(*) FILTER (WHERE delay > 15) AS late,
           sum(delay) AS total_delay, min(delay) AS best, max(delay) AS worst
    FROM ${from} GROUP BY window_start, origin`)
  if (database !== undefined) await connection.run('CHECKPOINT')
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  const used = process.cpuUsage(cpu)
  const reader = await connection.runAndReadAll('SELECT sum(flights), count(*) FROM result')
  const [[records, groups]] = reader.getRows()
  await connection.run(`
    COPY (SELECT strftime(window_start, '%Y-%m-%dT%H:%M:%SZ'), * EXCLUDE window_start FROM result)
    TO ${quote(out)} (FORMAT csv, HEADER false)`)
  console.log(seconds.toFixed(6), ((used.user + used.system) / 1e6).toFixed(3), `${records}`, `${groups}`)
}
