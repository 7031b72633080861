"""Bytes in plain files: blobs written as transactions, and append-only log streams. Knows no S3, no SageMaker."""
