"""The S3 port of a worker: the dialect that every S3 client speaks, over the reads and writes of the worker."""
