"""What each client of S3, fsspec and Alluxio can do through Preheat: sessions of the real clients, and their table."""
