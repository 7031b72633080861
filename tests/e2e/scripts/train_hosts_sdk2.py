"""What a data scientist has: two hosts, then two groups of them, with SDK v2. Prints JSON as its last line."""

import json
import pathlib
import sys
import tarfile

import sagemaker
from sagemaker.instance_group import InstanceGroup

image, folder = sys.argv[1], pathlib.Path(sys.argv[2])
session = sagemaker.Session()
role = sagemaker.get_execution_role()


def train(**hosts):
    estimator = sagemaker.estimator.Estimator(image, role, sagemaker_session=session, **hosts)
    estimator.fit()
    return estimator


two = train(instance_count=2, instance_type="ml.m5.large")
session.download_data(str(folder), session.default_bucket(), key_prefix=f"{two.latest_training_job.name}/output")
with tarfile.open(folder / "model.tar.gz") as archive:
    model = {name: archive.extractfile(name).read().decode() for name in archive.getnames() if "algo" in name}
groups = [InstanceGroup("fast", "ml.m5.large", 1), InstanceGroup("slow", "ml.c5.xlarge", 1)]
described = train(instance_groups=groups).latest_training_job.describe()
print(
    json.dumps(
        {
            "model": model,
            "groups": [each["InstanceGroupName"] for each in described["ResourceConfig"]["InstanceGroups"]],
        }
    )
)
