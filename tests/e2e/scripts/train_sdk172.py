"""The same in the words of the SDK of 2020 (1.72). Prints JSON as its last line, for the test."""

import json
import pathlib
import sys

import sagemaker as sage

image, folder = sys.argv[1], pathlib.Path(sys.argv[2])
(folder / "data").mkdir()
(folder / "data" / "a.csv").write_text("1,2,3\n")

sess = sage.Session()
role = sage.get_execution_role()
account = sess.boto_session.client("sts").get_caller_identity()["Account"]
data = sess.upload_data(str(folder / "data"), key_prefix="old-project/data")
tree = sage.estimator.Estimator(
    image,
    role,
    1,
    "ml.c4.2xlarge",
    output_path=f"s3://{sess.default_bucket()}/output",
    sagemaker_session=sess,
    hyperparameters={"behaviour": "ok"},
)
tree.fit({"training": data})
print(json.dumps({"role": role, "account": account, "job": tree.latest_training_job.name, "model": tree.model_data}))
