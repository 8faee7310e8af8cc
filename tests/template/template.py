"""Reads a SAM template as `sam deploy` would: transformed first, for cfn-lint and SAM's own schema see nothing of what stands inside
events and globals. It must never look at a template that was not transformed."""

import copy
import json
import logging
import os

from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

REGION = "eu-central-1"
# What `sam package` puts in the place of CodeUri.
CODE = {"bucket": "code", "key": "functions.zip"}

# The translator counts what it does and complains that nobody asks for the numbers.
logging.getLogger("samtranslator").setLevel(logging.ERROR)
# It asks boto3 for the region, for its partition.
os.environ.setdefault("AWS_DEFAULT_REGION", REGION)


class Refused(Exception):
    """The template is none, or SAM does not take it."""


class NoManagedPolicies:
    """No policy of the template is named; a name would be looked up in IAM."""

    def load(self):
        return {}


def parse(text: str) -> dict:
    """The template as it is written."""
    template = yaml_parse(text)
    if not isinstance(template, dict) or "Resources" not in template:
        raise Refused("it has no resources")
    return template


def transformed(text: str) -> dict:
    """The template as CloudFormation gets it. One without SAM resources stays as it is."""
    template = parse(text)
    if "Transform" not in template:
        return template
    template = copy.deepcopy(template)
    if "Globals" in template:
        template["Globals"].get("Function", {}).pop("CodeUri", None)
    for resource in template["Resources"].values():
        if resource.get("Type") == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = f"s3://{CODE['bucket']}/{CODE['key']}"
    try:
        return transform(template, {}, NoManagedPolicies())
    except InvalidDocumentException as error:
        raise Refused("; ".join(cause.message for cause in error.causes)) from error


def lint(template: dict) -> list[str]:
    """What cfn-lint has to say of a template, without what the template's own metadata turns off."""
    from cfnlint.api import lint as run
    from cfnlint.config import ManualArgs

    off = template.get("Metadata", {}).get("cfn-lint", {}).get("config", {}).get("ignore_checks", [])
    arguments = ManualArgs(regions=[REGION], ignore_checks=off)
    text = json.dumps(template, indent=1, default=str)
    return [f"{match.rule.id} {match.message} at {'/'.join(map(str, match.path or []))}" for match in run(text, config=arguments)]
