"""ECR's API over the image registry's rows."""
