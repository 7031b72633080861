"""Terraform's `aws_ecr_repository` and its relatives against a real server: made, changed, made again, gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.registry import Client, password
from support.server import Server, plain_environment

PLUGINS = Path(os.environ.get("SAGEWRIGHT_TF_PLUGINS", "/opt/tf-plugins"))
HEAD = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {}
"""
FIRST = """
resource "aws_ecr_repository" "model" {
  name                 = "team/model"
  image_tag_mutability = "MUTABLE"
  force_delete         = true
  image_scanning_configuration { scan_on_push = true }
  tags = { team = "ml" }
}
resource "aws_ecr_repository" "plain" { name = "plain" }
resource "aws_ecr_lifecycle_policy" "keep" {
  repository = aws_ecr_repository.model.name
  policy = jsonencode({ rules = [{ rulePriority = 1, description = "keep ten", action = { type = "expire" },
    selection = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 10 } }] })
}
resource "aws_ecr_repository_policy" "pull" {
  repository = aws_ecr_repository.model.name
  policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Sid = "pull", Effect = "Allow", Principal = "*", Action = ["ecr:BatchGetImage"] }] })
}
data "aws_ecr_authorization_token" "token" {}
data "aws_ecr_repository" "model" { name = aws_ecr_repository.model.name }
output "url" { value = aws_ecr_repository.model.repository_url }
output "same" { value = data.aws_ecr_repository.model.arn == aws_ecr_repository.model.arn }
output "proxy" { value = data.aws_ecr_authorization_token.token.proxy_endpoint }
output "user" { value = data.aws_ecr_authorization_token.token.user_name }
"""
IMAGE = """
data "aws_ecr_image" "v1" {
  repository_name = aws_ecr_repository.model.name
  image_tag       = "v1"
}
output "digest" { value = data.aws_ecr_image.v1.image_digest }
output "tags" { value = data.aws_ecr_image.v1.image_tags }
"""


class Terraform:
    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        (folder / "rc").write_text(
            f'provider_installation {{\n  filesystem_mirror {{ path = "{PLUGINS}" }}\n}}\ndisable_checkpoint = true\n'
        )
        self.run("init", "-input=false", program=HEAD)

    def run(self, *arguments: str, program: str | None = None, codes: tuple[int, ...] = (0,)) -> str:
        if program is not None:
            (self.folder / "main.tf").write_text(program)
        env = {**plain_environment(), **self.server.env("--no-proxy"), "TF_CLI_CONFIG_FILE": str(self.folder / "rc")}
        command = ["terraform", arguments[0], "-no-color", *arguments[1:]]
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode in codes, done.stdout + done.stderr
        return done.stdout + done.stderr

    def apply(self, program: str) -> dict[str, Any]:
        """The outputs; nothing must be left to do afterwards."""
        self.run("apply", "-auto-approve", program=HEAD + program)
        assert "No changes" in self.run("plan", "-detailed-exitcode")
        return {name: each["value"] for name, each in json.loads(self.run("output", "-json")).items()}


@pytest.fixture
def terraform(tmp_path: Path, own_server: Server) -> Terraform:
    if not shutil.which("terraform") or not (PLUGINS / "registry.terraform.io/hashicorp/aws").is_dir():
        pytest.skip(f"needs terraform, and its AWS provider under {PLUGINS} (SAGEWRIGHT_TF_PLUGINS)")
    own_server.start()
    return Terraform(tmp_path, own_server)


def test_the_life_of_repositories(terraform: Terraform) -> None:
    server = terraform.server
    address, ecr = server.url.removeprefix("http://"), server.client("ecr")
    made = terraform.apply(FIRST)
    assert made == {"url": f"{address}/team/model", "same": True, "proxy": server.url, "user": "AWS"}
    arn = ecr.describe_repositories(repositoryNames=["team/model"])["repositories"][0]["repositoryArn"]
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "team", "Value": "ml"}]

    registry = Client(server.url, password(server.data), "team/model")
    digest = registry.push_manifest(registry.image(b"layer"), "v1").headers["docker-content-digest"]
    changed = FIRST.replace('team = "ml"', 'owner = "ana"').replace("= 10", "= 3").replace('"MUTABLE"', '"IMMUTABLE"')
    changed = changed.replace("scan_on_push = true", "scan_on_push = false").replace(
        "GetImage", "CheckLayerAvailability"
    )
    outputs = terraform.apply(changed + IMAGE)
    assert (outputs["digest"], outputs["tags"]) == (digest, ["v1"])
    seen = ecr.describe_repositories(repositoryNames=["team/model"])["repositories"][0]
    assert (seen["imageTagMutability"], seen["imageScanningConfiguration"]) == ("IMMUTABLE", {"scanOnPush": False})
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "owner", "Value": "ana"}]
    assert '"countNumber":3' in ecr.get_lifecycle_policy(repositoryName="team/model")["lifecyclePolicyText"]

    # Policies, and a repository, that somebody took away behind Terraform's back are made again.
    ecr.delete_lifecycle_policy(repositoryName="team/model")
    ecr.delete_repository_policy(repositoryName="team/model")
    ecr.delete_repository(repositoryName="plain")
    assert "3 to add" in terraform.run("plan", "-detailed-exitcode", codes=(2,))
    terraform.apply(changed)

    # What exists already is refused on creation, and can be taken over.
    ecr.create_repository(repositoryName="other")
    other = changed + 'resource "aws_ecr_repository" "other" { name = "other" }\n'
    refused = terraform.run("apply", "-auto-approve", program=HEAD + other, codes=(1,))
    assert "RepositoryAlreadyExistsException" in refused
    terraform.run("import", "aws_ecr_repository.other", "other")
    terraform.apply(other)

    # Without force_delete a repository with images stays; with it, it goes.
    full = Client(server.url, registry.password, "other")
    full.push_manifest(full.image(b"layer"), "v1")
    stays = terraform.run("apply", "-auto-approve", program=HEAD + changed, codes=(1,))
    assert "not empty" in stays
    ecr.delete_repository(repositoryName="other", force=True)
    terraform.run("destroy", "-auto-approve")
    with pytest.raises(ClientError, match="RepositoryNotFoundException"):
        ecr.describe_repositories(repositoryNames=["team/model"])
