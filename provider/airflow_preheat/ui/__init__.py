"""Pages of Preheat in Airflow's UI: which caches there are and what they do, and the job of a task.

Nothing is imported here: every Airflow process loads the plugin, and only the API server serves pages.
"""
