"""SDK v2 script mode with the training toolkit in the user's image. Prints JSON as its last line, for the test.

script_mode_sdk2.py IMAGE FOLDER NAME: FOLDER has `source` and `data`.
"""

import json
import os
import pathlib
import sys

import sagemaker
from sagemaker.estimator import Estimator

image, folder, name = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
session = sagemaker.Session()
data = session.upload_data(os.fspath(folder / "data"), key_prefix="script-mode/data")
estimator = Estimator(
    image,
    sagemaker.get_execution_role(),
    int(os.environ.get("HOSTS", "1")),
    "ml.m5.large",
    entry_point="train.py",
    source_dir=os.fspath(folder / "source"),
    hyperparameters={"depth": 3, "name": name},
    sagemaker_session=session,
)
failure = ""
try:
    estimator.fit({"training": data})
except sagemaker.exceptions.UnexpectedStatusException as error:
    failure = str(error)
job = estimator.latest_training_job.name
described = session.sagemaker_client.describe_training_job(TrainingJobName=job)
print(
    json.dumps(
        {
            "job": job,
            "status": described["TrainingJobStatus"],
            "model": described["ModelArtifacts"]["S3ModelArtifacts"],
            "source": json.loads(described["HyperParameters"]["sagemaker_submit_directory"]),
            "failure": failure,
        }
    )
)
