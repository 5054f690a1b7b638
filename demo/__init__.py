"""The demo: warms a real dataset from Airflow, trains on it, and shows the numbers."""
