"""Train, deploy, predict, delete: an unmodified SDK v2 script. Prints JSON as its last line, for the test."""

import json
import sys

import sagemaker
from sagemaker.serializers import CSVSerializer

image = sys.argv[1]
estimator = sagemaker.estimator.Estimator(
    image,
    sagemaker.get_execution_role(),
    1,
    "ml.m5.large",
    sagemaker_session=sagemaker.Session(),
    hyperparameters={"behaviour": "ok", "depth": 3},
)
estimator.fit()
predictor = estimator.deploy(1, "ml.m5.large", serializer=CSVSerializer())
answer = predictor.predict([[1, 2, 3], [4, 5, 6]])
name = predictor.endpoint_name
predictor.delete_model()
predictor.delete_endpoint()
print()  # `deploy` leaves its row of dashes without an end
print(json.dumps({"endpoint": name, "answer": answer.decode()}))
