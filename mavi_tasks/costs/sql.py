"""The same sums for people who have SQL: one DuckDB query over the files themselves."""

SQL = """\
-- duckdb: put the dataset's folder for DIR. `set timezone` decides where days are cut.
set timezone = 'UTC';
with runs as (
    select run_id, any_value(job) as job, any_value(gateway) as gateway
    from read_parquet(['DIR/runs/**/*.parquet', 'DIR/results/**/*.parquet'], union_by_name = true)
    group by run_id
), tries as (
    select coalesce(finished_at, started_at)::date as day, model, job, gateway,
           cost_usd, exposure_usd, 0::decimal(18, 12) as useful_usd, 0::decimal(18, 12) as invalid_usd,
           1 as calls
    from 'DIR/attempts/**/*.parquet' left join runs using (run_id)
), bought as (
    select coalesce(finished_at, started_at)::date as day, model, job, gateway,
           0::decimal(18, 12), 0::decimal(18, 12),
           case when status = 'answered' then cost_usd end, case when status <> 'answered' then cost_usd end,
           0
    from 'DIR/results/**/*.parquet'
)
select day, model,
       coalesce(sum(cost_usd), 0) as cost_usd,
       coalesce(sum(useful_usd), 0) as useful_usd,
       coalesce(sum(invalid_usd), 0) as invalid_usd,
       coalesce(sum(cost_usd), 0) - coalesce(sum(useful_usd), 0) - coalesce(sum(invalid_usd), 0)
           as retried_usd,
       coalesce(sum(exposure_usd), 0) as exposure_usd,
       sum(calls)::bigint as calls
from (from tries union all from bought)
where coalesce(gateway, '') <> 'sandbox'
group by day, model
order by day, model
"""
