"""What a data scientist has: an unmodified SDK v3 script. Prints JSON as its last line, for the test.

train_sdk3.py IMAGE FOLDER basic|driver NAME: FOLDER has `source` and `data`. HOSTS is how many there are to be.
"""

import json
import os
import pathlib
import sys

from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.training.configs import Compute, InputData, SourceCode
from sagemaker.train import ModelTrainer
from sagemaker.train.distributed import DistributedConfig

image, folder, how, name = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]


class OwnDriver(DistributedConfig):
    """Not torchrun, not MPI: a driver of one's own."""

    @property
    def driver_dir(self) -> str:
        return os.fspath(folder / "source" / "driver")

    @property
    def driver_script(self) -> str:
        return "own_driver.py"


session = Session()
trainer = ModelTrainer(
    training_image=image,
    source_code=SourceCode(
        source_dir=os.fspath(folder / "source"), entry_script="train.py", requirements="requirements.txt"
    ),
    compute=Compute(instance_type="ml.m5.large", instance_count=int(os.environ.get("HOSTS", "1"))),
    hyperparameters={"depth": 3, "name": name},
    distributed=OwnDriver() if how == "driver" else None,
    role=get_execution_role(),
    base_job_name=f"sdk3-{how}",
    sagemaker_session=session,
)
training = InputData(channel_name="training", data_source=os.fspath(folder / "data"))
failure = ""
try:
    trainer.train(input_data_config=[training], wait=True, logs=True)
except Exception as error:
    failure = str(error)
job = trainer._latest_training_job
job.refresh()
print(
    json.dumps(
        {
            "job": job.training_job_name,
            "status": job.training_job_status,
            "model": job.model_artifacts.s3_model_artifacts,
            "failure": failure,
        }
    )
)
