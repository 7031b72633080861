"""What a data scientist has: an unmodified SDK v2 script. Prints JSON as its last line, for the test."""

import json
import pathlib
import sys

import sagemaker

image, folder = sys.argv[1], pathlib.Path(sys.argv[2])
(folder / "data").mkdir()
(folder / "data" / "a.csv").write_text("1,2,3\n")
(folder / "data" / "b.csv").write_text("4,5\n")

session = sagemaker.Session()
role = sagemaker.get_execution_role()
data = session.upload_data(str(folder / "data"), key_prefix="project/data")
estimator = sagemaker.estimator.Estimator(
    image,
    role,
    1,
    "ml.m5.large",
    sagemaker_session=session,
    hyperparameters={"behaviour": "ok", "depth": 3},
    metric_definitions=[{"Name": "loss", "Regex": r"loss=([0-9.]+);"}],
)
estimator.fit({"training": data})
session.download_data(str(folder), session.default_bucket(), key_prefix=f"{estimator.latest_training_job.name}/output")
print(
    json.dumps(
        {
            "role": role,
            "job": estimator.latest_training_job.name,
            "model": estimator.model_data,
            "files": sorted(path.name for path in folder.iterdir()),
        }
    )
)
