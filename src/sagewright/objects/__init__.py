"""S3 semantics on rows and blobs: what each operation of the S3 API means. Knows no HTTP, no SageMaker."""
