"""Uses AWS from within a container, with nothing but what the container was given.

check_aws.py BUCKET NAME: with the boto3 that is on the path, as NAME.
"""

import os
import subprocess
import sys

import boto3
from pip._vendor import requests

bucket, name = sys.argv[1:]
print(name, "has boto3", boto3.__version__, flush=True)
print(name, "is", boto3.client("sts").get_caller_identity()["Arn"], flush=True)
s3 = boto3.client("s3")
body = os.urandom(9 << 20)  # in parts
with open("/tmp/body", "wb") as file:
    file.write(body)
s3.upload_file("/tmp/body", bucket, f"{name}/body")
assert s3.get_object(Bucket=bucket, Key=f"{name}/body")["Body"].read() == body
listed = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=f"{name}/")["Contents"]]
assert listed == [f"{name}/body"], listed
url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": f"{name}/body"})
print(name, "signs", url.partition("?")[0], flush=True)
assert requests.get(url).content == body
if name == "old":
    command = [sys.executable, "-m", "awscli", "s3", "ls", f"s3://{bucket}/{name}/"]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, flush=True)
