"""Deploys template.yaml to moto, which stands for AWS: the transformed template, decided for one set of parameters, without what moto's
CloudFormation cannot make. Prints what came of it as one line of JSON, serves until standard input ends, and exits. It must never help
a deployment along: what it leaves out is named in LEFT_OUT, and a test holds it to that."""

import io
import json
import logging
import os
import sys
import warnings
import zipfile
from pathlib import Path

from checks import CLUSTER, REQUIRED
from conditions import decide, refused_by_patterns, refused_by_rules
from template import CODE, REGION, transformed

ROOT = Path(__file__).parents[2]
STACK = "strait"
# moto's event sources are SQS, Kinesis and DynamoDB streams; it refuses others, so this one is taken out of the template, with references
# to it. What moto passes over on its own is in NOT_MADE.
LEFT_OUT = {"IngestFunctionKafka": "AWS::Lambda::EventSourceMapping"}
NOT_MADE = {"AWS::CloudWatch::Alarm", "AWS::Lambda::EventInvokeConfig", "AWS::S3::BucketPolicy", "AWS::Scheduler::Schedule"}

os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
logging.disable(logging.WARNING)
warnings.filterwarnings("ignore", message="Tried to parse")


def without(node, name: str):
    """The node with a resource's id where it is referred to."""
    if isinstance(node, dict):
        if node == {"Ref": name}:
            return f"left-out-{name}"
        return {key: without(value, name) for key, value in node.items()}
    if isinstance(node, list):
        return [without(value, name) for value in node]
    return node.replace(f"${{{name}}}", f"left-out-{name}") if isinstance(node, str) else node


def service_account() -> str:
    """The JSON of a service account's key that was made just now and opens nothing."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return json.dumps(
        {
            "type": "service_account",
            "project_id": REQUIRED["GoogleProject"],
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": f"strait@{REQUIRED['GoogleProject']}.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token",
        }
    )


def main() -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = lambda service: boto3.client(service, region_name=REGION, endpoint_url=endpoint)

    secret = client("secretsmanager").create_secret(Name="strait/google", SecretString=service_account())["ARN"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("bootstrap", "")
    s3 = client("s3")
    s3.create_bucket(Bucket=CODE["bucket"], CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=CODE["bucket"], Key=CODE["key"], Body=archive.getvalue())

    template = transformed((ROOT / "template.yaml").read_text())
    given = json.loads(sys.argv[1])
    if given.pop("credential", None) == "secret":
        given["CredentialsSecretArn"] = secret
    given = REQUIRED | given
    refused = refused_by_patterns(template, given) + refused_by_rules(template, given)
    if refused:
        raise SystemExit(f"CloudFormation would refuse the parameters: {refused}")
    template = decide(template, given)
    for name, kind in LEFT_OUT.items():
        if template["Resources"].pop(name)["Type"] != kind:
            raise SystemExit(f"{name} is no {kind}")
        template = without(template, name)
    expected = {name for name, resource in template["Resources"].items() if resource["Type"] not in NOT_MADE}

    cloudformation = client("cloudformation")
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
    cloudformation.create_stack(
        StackName=STACK, TemplateBody=json.dumps(template), Parameters=parameters, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    resources = cloudformation.list_stack_resources(StackName=STACK)["StackResourceSummaries"]
    # moto lists those that it did not make without a name.
    made = {resource["LogicalResourceId"] for resource in resources} - {""}
    functions = {}
    for function in client("lambda").list_functions()["Functions"]:
        name = function["FunctionName"]
        functions[name] = {
            # Lambda's variables are texts; moto keeps a parameter's number.
            "environment": {key: str(value) for key, value in function["Environment"]["Variables"].items()},
            "timeout": function["Timeout"],
            "memory": function["MemorySize"],
            "runtime": function["Runtime"],
        }
    groups = client("logs").describe_log_groups()["logGroups"]
    answer = {
        "endpoint": endpoint,
        "region": REGION,
        "cluster": CLUSTER,
        "functions": functions,
        "retention": {group["logGroupName"]: group.get("retentionInDays") for group in groups},
        "missing": sorted(expected - made),
        "unexpected": sorted(made - expected),
        "left_out": sorted(set(LEFT_OUT.values()) | NOT_MADE),
    }
    print(json.dumps(answer), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
