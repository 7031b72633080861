"""Batch transform by an unmodified SDK v2 script. Prints JSON as its last line, for the test."""

import json
import sys

import sagemaker

session = sagemaker.Session()
bucket = session.default_bucket()
name = sagemaker.utils.unique_name_from_base("transform")
source = session.upload_string_as_file_body("1,2\n3,4\n", bucket, f"{name}/in/data.csv")
estimator = sagemaker.estimator.Estimator(
    sys.argv[1],
    sagemaker.get_execution_role(),
    1,
    "ml.m5.large",
    sagemaker_session=session,
    hyperparameters={"behaviour": "ok"},
)
estimator.fit(logs=False)
transformer = estimator.transformer(
    1, "ml.m5.large", output_path=f"s3://{bucket}/{name}/out", max_concurrent_transforms=2, assemble_with="Line"
)
transformer.transform(source, content_type="text/csv", split_type="Line", job_name=name)
transformer.wait(logs=True)
output = session.read_s3_file(bucket, f"{name}/out/data.csv.out")
print()
print(json.dumps({"output": output}))
