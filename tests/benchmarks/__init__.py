"""``make bench``: Preheat beside s5cmd, nginx, boto3 and s3fs, on real parts and on one machine.

``docs/benchmarks/README.md`` says what is measured, how, and what is not.
"""
