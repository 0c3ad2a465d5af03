"""What `mavi_tasks` offers to Python code; the names are listed in `mavi_tasks.__all__`.

run        plan(job), run(job), await arun(job)
label      label(manifest, prompt, models=...): a job from arguments
manifest   lists, DataFrames and Arrow tables as a Parquet manifest
results    what a run returns: tables, cost, report
progress   on_progress, and the line that a notebook shows
analysis   compare, costs, price, dataframe
"""
