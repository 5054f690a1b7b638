# An example of Airflow with the provider. From the root of the repository:
#   docker build --file docker/airflow.Dockerfile --tag airflow-preheat:0.1.0 .
# It has none of the cluster's code: the provider speaks HTTP to it.
ARG AIRFLOW_VERSION=3.3.2
FROM apache/airflow:${AIRFLOW_VERSION}-python3.12
ARG AIRFLOW_VERSION
COPY --chown=airflow:0 pyproject.toml README.md LICENSE CHANGELOG.md /opt/provider/
COPY --chown=airflow:0 provider/ /opt/provider/provider/
# Airflow's version is named again, so that pip cannot change it.
RUN pip install --no-cache-dir "apache-airflow==${AIRFLOW_VERSION}" /opt/provider
