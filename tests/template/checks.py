"""What template.yaml and infra/source.yaml promise, each promise as a check that returns what is wrong, as `class: finding`. A check must
never be satisfied by a comment or by a text of its own: it looks at the transformed template, decided for a set of parameters."""

import json
import re

from conditions import decide, parameters_of, refused_by_patterns, refused_by_rules
from template import Refused, lint, parse, transformed

ACCOUNT = "123456789012"
CLUSTER = f"arn:aws:kafka:eu-central-1:{ACCOUNT}:cluster/shop/11111111-2222-3333-4444-555555555555-1"
SECRET = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:strait"
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"

REQUIRED = {"MskClusterArn": CLUSTER, "Topic": "cdc", "GoogleProject": "strait-e2e"}
FEDERATED = REQUIRED | {
    "WorkloadIdentityProvider": "projects/123/locations/global/workloadIdentityPools/aws/providers/strait",
}
# Every kind of deployment that the parameters offer.
DEPLOYMENTS = {
    "federated": FEDERATED,
    "as a service account": FEDERATED | {"GoogleServiceAccount": "strait@strait-e2e.iam.gserviceaccount.com"},
    "credential from a secret": REQUIRED | {"CredentialsSecretArn": SECRET},
    "everything": REQUIRED
    | {
        "KafkaAuthentication": "SASL_SCRAM_512_AUTH",
        "KafkaSecretArn": SECRET,
        "CredentialsSecretArn": SECRET,
        "SecretsKmsKeyArn": KEY,
        "KmsKeyArn": KEY,
        "Mask": "shop.customers.email=hash",
        "MaskKeySecretArn": SECRET,
        "SubnetIds": "subnet-01234567,subnet-89abcdef",
        "SecurityGroupIds": "sg-01234567",
        "AlarmEmail": "on-call@example.com",
        "Architecture": "x86_64",
    },
    "certificates": FEDERATED | {"KafkaAuthentication": "CLIENT_CERTIFICATE_TLS_AUTH", "KafkaSecretArn": SECRET},
}

# What each role may do in each kind of deployment; nothing else.
LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
NETWORK = {
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
}
BROKERS = {"kafka:DescribeClusterV2", "kafka:GetBootstrapBrokers"}
BY_IAM = {
    "kafka-cluster:Connect",
    "kafka-cluster:DescribeClusterDynamicConfiguration",
    "kafka-cluster:DescribeTopic",
    "kafka-cluster:ReadData",
    "kafka-cluster:DescribeGroup",
    "kafka-cluster:AlterGroup",
}
GET_SECRET = {"secretsmanager:GetSecretValue"}
DECRYPT, OWN_KEY = {"kms:Decrypt"}, {"kms:Decrypt", "kms:GenerateDataKey"}
INGEST = LOGS | NETWORK | BROKERS | {"s3:PutObject", "s3:ListBucket"}
MERGE = LOGS | {"sqs:SendMessage"}
SCHEDULE = {"lambda:InvokeFunction", "sqs:SendMessage"}
ROLES = {
    "federated": {"IngestRole": INGEST | BY_IAM, "MergeRole": MERGE, "ScheduleRole": SCHEDULE},
    "as a service account": {"IngestRole": INGEST | BY_IAM, "MergeRole": MERGE, "ScheduleRole": SCHEDULE},
    "credential from a secret": {
        "IngestRole": INGEST | BY_IAM | GET_SECRET,
        "MergeRole": MERGE | GET_SECRET,
        "ScheduleRole": SCHEDULE,
    },
    "everything": {
        "IngestRole": INGEST | GET_SECRET | OWN_KEY | {"kafka:ListScramSecrets"},
        "MergeRole": MERGE | NETWORK | GET_SECRET | OWN_KEY,
        "ScheduleRole": SCHEDULE | OWN_KEY,
    },
    "certificates": {"IngestRole": INGEST | GET_SECRET, "MergeRole": MERGE, "ScheduleRole": SCHEDULE},
}
# Statements that may name every resource, each for the reason that stands beside it in the template.
ANY_RESOURCE = {"NetworkInterfaces"}

# Metrics that AWS makes, by namespace and dimension; of an event source each in the group that has to be turned on
# (https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html).
AWS_METRICS = {
    ("AWS/Lambda", "FunctionName"): {"Errors", "Throttles", "Invocations", "Duration"},
    ("AWS/Lambda", "EventSourceMappingUUID"): {
        "DroppedEventCount": "EventCount",
        "OnFailureDestinationDeliveredEventCount": "EventCount",
        "PollingErrorCount": "ErrorCount",
        "SumOffsetLag": "KafkaMetrics",
        "MaxOffsetLag": "KafkaMetrics",
    },
    ("AWS/SQS", "QueueName"): {"ApproximateNumberOfMessagesVisible"},
}
# What a person has to be told of.
NEEDED_ALARMS = {
    "records-stalled", "ingest-lag", "unmerged-age", "poison", "quarantine", "failed-merges", "log-expiry", "dead-letters",
    "dropped-records", "loads-without-start", "merge-dead-letters", "ingest-throttles", "ingest-errors", "merge-errors", "merge-missing",
    "polling-errors", "waiting-tables", "offset-holes", "bytes-billed",
}  # fmt: skip

# The settings of DMS that keep data safe.
ENDPOINT = {
    "MessageFormat": "json-unformatted",
    "IncludeTransactionDetails": True,
    "IncludeControlDetails": True,
    "IncludeTableAlterOperations": True,
    "IncludeNullAndEmpty": True,
    "PartitionIncludeSchemaTable": True,
    "IncludePartitionValue": True,
}


def of_type(template: dict, kind: str) -> dict[str, dict]:
    """The resources of one type, by logical id."""
    return {name: resource for name, resource in template["Resources"].items() if resource["Type"] == kind}


def listed(value) -> list:
    return value if isinstance(value, list) else [value]


def statements(template: dict, role: str) -> list[dict]:
    """Every statement that a role has, from its own policies and from those that are attached to it."""
    found = []
    own = template["Resources"][role]["Properties"].get("Policies", [])
    shared = of_type(template, "AWS::IAM::Policy") | of_type(template, "AWS::IAM::RolePolicy")
    for policy in own:
        found += policy["PolicyDocument"]["Statement"]
    for policy in shared.values():
        properties = policy["Properties"]
        roles = properties.get("Roles", [properties.get("RoleName")])
        if {"Ref": role} in roles:
            found += properties["PolicyDocument"]["Statement"]
    return found


def check_event_source(template: dict, deployment: dict, name: str) -> list[str]:
    sources = of_type(template, "AWS::Lambda::EventSourceMapping")
    if list(sources) != ["IngestFunctionKafka"]:
        return [f"there is not one event source, IngestFunctionKafka, but {sorted(sources)}"]
    properties = sources["IngestFunctionKafka"]["Properties"]
    wanted = {
        "EventSourceArn": {"Ref": "MskClusterArn"},
        "FunctionName": {"Ref": "IngestFunction"},
        "Topics": [{"Ref": "Topic"}],
        "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": {"Ref": "ConsumerGroupId"}},
        "StartingPosition": {"Ref": "StartingPosition"},
        "BatchSize": {"Ref": "BatchSize"},
        "MaximumBatchingWindowInSeconds": {"Ref": "BatchingWindowSeconds"},
        "ProvisionedPollerConfig": {"MinimumPollers": {"Ref": "MinimumPollers"}, "MaximumPollers": {"Ref": "MaximumPollers"}},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": {"Ref": "MaximumRetryAttempts"},
        "MaximumRecordAgeInSeconds": {"Ref": "MaximumRecordAgeSeconds"},
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["DeadLetters", "Arn"]}}},
        "MetricsConfig": {"Metrics": ["EventCount", "ErrorCount", "KafkaMetrics"]},
        "LoggingConfig": {"SystemLogLevel": "INFO"},
    }
    if deployment.get("KafkaSecretArn"):
        access = {"Type": {"Ref": "KafkaAuthentication"}, "URI": {"Ref": "KafkaSecretArn"}}
        wanted["SourceAccessConfigurations"] = [access]
    return [
        f"{key} is {properties.get(key)}, not {wanted.get(key)}"
        for key in sorted(wanted.keys() | properties.keys())
        if properties.get(key) != wanted.get(key)
    ]


def check_iam(template: dict, deployment: dict, name: str) -> list[str]:
    wrong = []
    for logical, role in of_type(template, "AWS::IAM::Role").items():
        if role["Properties"].get("ManagedPolicyArns"):
            wrong.append(f"{logical} has managed policies, which name no resource of this stack")
        if logical not in ROLES[name]:
            wrong.append(f"{logical} is a role that nobody expects")
            continue
        allowed = set()
        for statement in statements(template, logical):
            if statement["Effect"] != "Allow":
                continue
            actions = set(listed(statement["Action"]))
            allowed |= actions
            wrong += [f"{logical} has a wildcard action, {action}" for action in actions if "*" in action]
            resources = listed(statement["Resource"])
            if "*" in resources and statement.get("Sid") not in ANY_RESOURCE:
                wrong.append(f"{logical} may {sorted(actions)} on any resource")
            if statement.get("Sid") in ANY_RESOURCE and actions - NETWORK:
                wrong.append(f"{logical} may {sorted(actions - NETWORK)} on any resource, beside the network interfaces")
        wanted = ROLES[name][logical]
        if allowed != wanted:
            wrong.append(f"{logical} may {sorted(allowed - wanted)} beside what it needs, and lacks {sorted(wanted - allowed)}")
    for logical, function in of_type(template, "AWS::Lambda::Function").items():
        role = function["Properties"]["Role"]
        if role != {"Fn::GetAtt": [logical.replace("Function", "Role"), "Arn"]}:
            wrong.append(f"{logical} has the role {role}")
    return wrong


def check_schedule(template: dict, deployment: dict, name: str) -> list[str]:
    wrong = []
    schedules = of_type(template, "AWS::Scheduler::Schedule")
    if list(schedules) != ["MergeFunctionSchedule"]:
        return [f"there is not one schedule, MergeFunctionSchedule, but {sorted(schedules)}"]
    properties = schedules["MergeFunctionSchedule"]["Properties"]
    target = properties["Target"]
    function = template["Resources"]["MergeFunction"]["Properties"]
    invoke = of_type(template, "AWS::Lambda::EventInvokeConfig")
    invoke = invoke.get("MergeFunctionEventInvokeConfig", {}).get("Properties", {})
    queue = {"Fn::GetAtt": ["MergeDeadLetters", "Arn"]}
    for what, found, wanted in [
        ("its name", properties.get("Name"), None),
        ("its expression", properties.get("ScheduleExpression"), {"Ref": "MergeSchedule"}),
        ("its state", properties.get("State", "ENABLED"), "ENABLED"),
        ("its window", properties.get("FlexibleTimeWindow"), {"Mode": "OFF"}),
        ("its target", target.get("Arn"), {"Fn::GetAtt": ["MergeFunction", "Arn"]}),
        ("its role", target.get("RoleArn"), {"Fn::GetAtt": ["ScheduleRole", "Arn"]}),
        ("its retries", target.get("RetryPolicy", {}).get("MaximumRetryAttempts"), 0),
        ("its dead letters", target.get("DeadLetterConfig", {}).get("Arn"), queue),
        ("reserved concurrency", function.get("ReservedConcurrentExecutions"), 1),
        ("asynchronous retries", invoke.get("MaximumRetryAttempts"), 0),
        ("where failed runs go", invoke.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"), queue),
    ]:
        if found != wanted:
            wrong.append(f"{what}: {found}, not {wanted}")
    if invoke.get("MaximumEventAgeInSeconds", 0) <= function["Timeout"]:
        wrong.append("an event gets too old while the run before it uses its time")
    return wrong


def check_retention(template: dict, deployment: dict, name: str) -> list[str]:
    wrong = []
    key = {"Ref": "KmsKeyArn"} if deployment.get("KmsKeyArn") else None
    groups = of_type(template, "AWS::Logs::LogGroup")
    for logical, group in groups.items():
        if group["Properties"].get("RetentionInDays") != {"Ref": "LogGroupRetentionDays"}:
            wrong.append(f"{logical} keeps its lines for {group['Properties'].get('RetentionInDays')}")
        if group["Properties"].get("KmsKeyId") != key:
            wrong.append(f"{logical} is not encrypted with {key}")
    for logical, function in of_type(template, "AWS::Lambda::Function").items():
        logging = function["Properties"].get("LoggingConfig", {})
        if logging.get("LogGroup", {}).get("Ref") not in groups or logging.get("LogFormat") != "JSON":
            wrong.append(f"{logical} writes to a log group that no retention is set for, or not as JSON: {logging}")
        if function["Properties"].get("KmsKeyArn") != key:
            wrong.append(f"{logical}'s environment is not encrypted with {key}")
    for logical, queue in of_type(template, "AWS::SQS::Queue").items():
        if queue["Properties"].get("MessageRetentionPeriod") != 1209600:
            wrong.append(f"{logical} keeps its messages for less than SQS can")
        if queue["Properties"].get("KmsMasterKeyId") != key or (key is None and not queue["Properties"].get("SqsManagedSseEnabled")):
            wrong.append(f"{logical} is not encrypted")
    for logical, bucket in of_type(template, "AWS::S3::Bucket").items():
        properties = bucket["Properties"]
        rules = properties.get("LifecycleConfiguration", {}).get("Rules", [])
        if not any(rule.get("ExpirationInDays") == {"Ref": "DeadLetterRetentionDays"} and rule["Status"] == "Enabled" for rule in rules):
            wrong.append(f"{logical} keeps records for ever")
        if bucket.get("DeletionPolicy") != "Retain" or bucket.get("UpdateReplacePolicy") != "Retain":
            wrong.append(f"{logical} goes with the stack, and what lies in it")
        public = properties.get("PublicAccessBlockConfiguration", {})
        if len(public) != 4 or not all(public.values()):
            wrong.append(f"{logical} could be made public")
        if "BucketEncryption" not in properties:
            wrong.append(f"{logical} is not encrypted")
    return wrong


def references(value) -> str | None:
    """The resource that a dimension's value stands for."""
    if "Ref" in value:
        return value["Ref"]
    return value.get("Fn::GetAtt", [None])[0]


def metric_is_wrong(template: dict, namespace: str, metric: str, dimensions: list[tuple[str, str]], facts: dict) -> str | None:
    """Why there is no such metric; `dimensions` with the logical id of what each value stands for."""
    if namespace == "Strait":
        names = [name for name, _ in dimensions]
        program = {"IngestFunction": "ingest", "MergeFunction": "merge"}.get(dict(dimensions).get("Function"))
        emitted = facts["metrics"].get(program, [])
        if not any(found["name"] == metric and found["dimensions"] == names for found in emitted):
            return f"{program} emits no {metric} with the dimensions {names}"
        return None
    if len(dimensions) != 1:
        return f"{namespace} has no {metric} with the dimensions {dimensions}"
    (dimension, logical), = dimensions
    known = AWS_METRICS.get((namespace, dimension), {})
    if metric not in known:
        return f"{namespace} has no {metric} by {dimension}"
    if dimension == "EventSourceMappingUUID":
        groups = template["Resources"]["IngestFunctionKafka"]["Properties"].get("MetricsConfig", {}).get("Metrics", [])
        if known[metric] not in groups:
            return f"the event source does not make {metric}: its group {known[metric]} is not turned on"
    expected = {"FunctionName": "AWS::Lambda::Function", "EventSourceMappingUUID": "AWS::Lambda::EventSourceMapping", "QueueName": "AWS::SQS::Queue"}
    resource = template["Resources"].get(logical, {})
    return None if resource.get("Type") == expected[dimension] else f"{metric} is measured of {logical}"


def check_alarms(template: dict, deployment: dict, name: str, facts: dict) -> list[str]:
    wrong = []
    slugs = set()
    for logical, alarm in of_type(template, "AWS::CloudWatch::Alarm").items():
        properties = alarm["Properties"]
        slug = properties["AlarmName"]["Fn::Sub"].removeprefix("${AWS::StackName}-")
        slugs.add(slug)
        description = properties.get("AlarmDescription", "")
        if not description.endswith(f" docs/runbook.md#{slug}") or len(description) < 100 or len(description) > 1024:
            wrong.append(f"{logical} does not say what to do, and where the runbook says more")
        if properties.get("AlarmActions") != [{"Ref": "Alarms"}] or properties.get("ActionsEnabled") is False:
            wrong.append(f"{logical} tells nobody")
        if "TreatMissingData" not in properties:
            wrong.append(f"{logical} does not say what silence means")
        metrics = [entry["MetricStat"]["Metric"] for entry in properties.get("Metrics", []) if "MetricStat" in entry] or [properties]
        for metric in metrics:
            dimensions = [(entry["Name"], references(entry["Value"])) for entry in metric.get("Dimensions", [])]
            why = metric_is_wrong(template, metric["Namespace"], metric["MetricName"], dimensions, facts)
            if why:
                wrong.append(f"{logical}: {why}")
    if slugs != NEEDED_ALARMS:
        wrong.append(f"alarms are missing: {sorted(NEEDED_ALARMS - slugs)}; nobody expects {sorted(slugs - NEEDED_ALARMS)}")
    return wrong


def check_dashboard(template: dict, deployment: dict, name: str, facts: dict) -> list[str]:
    (dashboard,) = of_type(template, "AWS::CloudWatch::Dashboard").values()
    body = dashboard["Properties"]["DashboardBody"]["Fn::Sub"]
    try:
        widgets = json.loads(body)["widgets"]
    except ValueError as error:
        return [f"its body is not JSON: {error}"]
    wrong = []
    for widget in widgets:
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], dict):
                search = re.search(r"\{Strait,([\w,]+)\} MetricName=\"(\w+)\" Function=\"\$\{(\w+)\}\"", metric[0]["expression"])
                dimensions = [(dimension, search[3] if dimension == "Function" else "") for dimension in search[1].split(",")]
                why = metric_is_wrong(template, "Strait", search[2], dimensions, facts)
            else:
                parts = [part for part in metric if isinstance(part, str)]
                pairs = [(dimension, value[2:-1]) for dimension, value in zip(parts[2::2], parts[3::2])]
                why = metric_is_wrong(template, parts[0], parts[1], pairs, facts)
            if why:
                wrong.append(f"{widget['properties']['title']}: {why}")
    return wrong


def check_environment(template: dict, deployment: dict, name: str, facts: dict) -> list[str]:
    wrong = []
    values = parameters_of(template, deployment)
    for logical, function in of_type(template, "AWS::Lambda::Function").items():
        variables = function["Properties"].get("Environment", {}).get("Variables", {})
        wanted = {variable["name"] for variable in facts["variables"]}
        if variables.keys() != wanted:
            unset, unknown = sorted(wanted - variables.keys()), sorted(variables.keys() - wanted)
            wrong.append(f"{logical} does not set {unset}, and sets what the code does not read: {unknown}")
            continue
        for variable in facts["variables"]:
            value = variables[variable["name"]]
            parameter = value.get("Ref") if isinstance(value, dict) else None
            if parameter and parameter not in deployment and values[parameter] != (variable["default"] or ""):
                wrong.append(f"{parameter} is {values[parameter]!r} by default, {variable['name']} is {variable['default']!r}")
            if value == "" and variable["default"]:
                wrong.append(f"{variable['name']} cannot be set")
        credential = variables["STRAIT_CREDENTIALS"]
        if bool(credential) != bool(deployment.get("WorkloadIdentityProvider")):
            wrong.append(f"{logical}: STRAIT_CREDENTIALS does not follow WorkloadIdentityProvider")
    return wrong


def check_functions(template: dict, deployment: dict, name: str) -> list[str]:
    wrong = []
    functions = of_type(template, "AWS::Lambda::Function")
    if sorted(functions) != ["IngestFunction", "MergeFunction"]:
        wrong.append(f"the functions are {sorted(functions)}")
    for logical, function in functions.items():
        properties = function["Properties"]
        network = properties.get("VpcConfig")
        wanted = None
        if deployment.get("SubnetIds"):
            split = lambda parameter: {"Fn::Split": [",", {"Ref": parameter}]}
            wanted = {"SubnetIds": split("SubnetIds"), "SecurityGroupIds": split("SecurityGroupIds")}
        for what, found, expected in [
            ("runtime", properties.get("Runtime"), "provided.al2023"),
            ("handler", properties.get("Handler"), "bootstrap"),
            ("architecture", properties.get("Architectures"), [{"Ref": "Architecture"}]),
            ("network", network, wanted),
        ]:
            if found != expected:
                wrong.append(f"{logical}'s {what} is {found}, not {expected}")
    return wrong


def check_binaries(written: dict, facts: dict) -> list[str]:
    wrong = []
    built = set()
    for logical, resource in written["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        metadata = resource.get("Metadata", {})
        binary = metadata.get("BuildProperties", {}).get("Binary")
        if metadata.get("BuildMethod") != "rust-cargolambda":
            wrong.append(f"{logical} is not built by rust-cargolambda")
        if binary not in facts["binaries"]:
            wrong.append(f"{logical} is built from the binary {binary}, which no package has ({facts['binaries']})")
        if f"{binary}function" != logical.lower():
            wrong.append(f"{logical} runs {binary}")
        built.add(binary)
    code = written["Globals"]["Function"].get("CodeUri")
    return wrong + ([] if code == "." else [f"CodeUri is {code}; cargo lambda builds where the workspace is"])


# Parameters that nonsense was given for, and which of them has to be refused, by itself or by a rule.
NONSENSE = [
    ({"MskClusterArn": "arn:aws:kafka:eu-central-1:123456789012:topic/shop/1/cdc"}, "MskClusterArn"),
    ({"Topic": "a topic"}, "Topic"),
    ({"ConsumerGroupId": "strait:1"}, "ConsumerGroupId"),
    ({"KafkaAuthentication": "NONE"}, "KafkaAuthentication"),
    ({"StartingPosition": "AT_TIMESTAMP"}, "StartingPosition"),
    ({"BatchSize": "10001"}, "BatchSize"),
    ({"MaximumRetryAttempts": "-1"}, "MaximumRetryAttempts"),
    ({"GoogleProject": "My Project"}, "GoogleProject"),
    ({"WorkloadIdentityProvider": "aws/strait"}, "WorkloadIdentityProvider"),
    ({"LogTable": "project.cdc.log"}, "LogTable"),
    ({"FinalTable": "replica.{schema}"}, "FinalTable"),
    ({"BigQueryRestUrl": "http://bigquery.googleapis.com/bigquery/v2"}, "BigQueryRestUrl"),
    ({"Deletes": "never"}, "Deletes"),
    ({"LogRetentionDays": "0"}, "LogRetentionDays"),
    ({"Mask": "shop.customers.email=hide"}, "Mask"),
    ({"MaximumBytesBilled": "1 TiB"}, "MaximumBytesBilled"),
    ({"MergeSchedule": "rate(1 minutes)"}, "MergeSchedule"),
    ({"MergeSchedule": "every hour"}, "MergeSchedule"),
    ({"SubnetIds": "subnet-1, subnet-2", "SecurityGroupIds": "sg-1"}, "SubnetIds"),
    ({"KmsKeyArn": "alias/strait"}, "KmsKeyArn"),
    ({"AlarmEmail": "on-call"}, "AlarmEmail"),
    ({"CredentialsSecretArn": SECRET}, "exactly one"),
    ({"WorkloadIdentityProvider": ""}, "exactly one"),
    ({"KafkaAuthentication": "SASL_SCRAM_512_AUTH"}, "need KafkaSecretArn"),
    ({"KafkaSecretArn": SECRET}, "With IAM there is no KafkaSecretArn"),
    ({"SubnetIds": "subnet-1"}, "belong together"),
    ({"MaskKeySecretArn": SECRET}, "only for Mask"),
]


def check_parameters(written: dict) -> list[str]:
    wrong = []
    groups = written["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    if sorted(grouped) != sorted(written["Parameters"]):
        missing, unknown = written["Parameters"].keys() - set(grouped), set(grouped) - written["Parameters"].keys()
        wrong.append(f"parameters in no group: {sorted(missing)}; in a group and not there, or twice: {sorted(unknown)}")
    for name, parameter in written["Parameters"].items():
        if len(parameter.get("Description", "")) < 20:
            wrong.append(f"{name} is not described")
        bounds = {"AllowedPattern", "AllowedValues", "MinValue", "MinLength"}
        if parameter["Type"] in ("String", "Number") and not bounds & parameter.keys():
            wrong.append(f"{name} takes anything")
    return wrong


def check_nonsense(written: dict) -> list[str]:
    wrong = []
    for name, deployment in DEPLOYMENTS.items():
        refused = refused_by_patterns(written, deployment) + refused_by_rules(written, deployment)
        wrong += [f"a deployment ({name}) is refused: {why}" for why in refused]
    for nonsense, wanted in NONSENSE:
        given = FEDERATED | nonsense
        refused = refused_by_patterns(written, given) + refused_by_rules(written, given)
        if not any(wanted in why for why in refused):
            wrong.append(f"{nonsense} is taken")
    return wrong


def check_source(template: dict) -> list[str]:
    """infra/source.yaml, with everything made."""
    wrong = []
    given = {
        "VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2,subnet-3", "Engine": "aurora-postgresql", "EngineFamily": "aurora-postgresql16",
        "DatabaseSecretArn": SECRET, "DatabaseName": "shop", "AuroraSecurityGroupId": "sg-1", "Brokers": "b-1.shop.kafka.amazonaws.com:9096",
    }  # fmt: skip
    postgresql, mysql = decide(template, given), decide(template, given | {"Engine": "aurora-mysql", "EngineFamily": "aurora-mysql8.0"})
    for engine, decided in (("aurora-postgresql", postgresql), ("aurora-mysql", mysql)):
        target = decided["Resources"]["KafkaEndpoint"]["Properties"]
        for setting, value in ENDPOINT.items():
            if target["KafkaSettings"].get(setting) != value:
                wrong.append(f"the endpoint's {setting} is {target['KafkaSettings'].get(setting)}, not {value}")
        if "useLargeIntegerValue=true" not in target.get("ExtraConnectionAttributes", "").split(";"):
            wrong.append("the endpoint's large integers lose digits")
        if target["KafkaSettings"].get("SecurityProtocol") != "sasl-ssl":
            wrong.append("DMS does not authenticate")
        replication = decided["Resources"]["Replication"]["Properties"]
        settings = replication["ReplicationSettings"]
        for what, found, wanted in [
            ("type", replication["ReplicationType"], "full-load-and-cdc"),
            ("table mappings", replication["TableMappings"], {"Ref": "TableMappings"}),
            ("batch apply", settings["TargetMetadata"].get("BatchApplyEnabled"), False),
            ("before-image", settings.get("BeforeImageSettings", {}).get("EnableBeforeImage"), True),
            ("before-image's columns", settings.get("BeforeImageSettings", {}).get("ColumnFilter"), "pk-only"),
            ("limited LOB mode", settings["TargetMetadata"].get("LimitedSizeLobMode"), False),
        ]:
            if found != wanted:
                wrong.append(f"the replication's {what}: {found}, not {wanted}")
        (group,) = of_type(decided, "AWS::RDS::DBClusterParameterGroup").values()
        wanted = {"rds.logical_replication": "1"} if engine == "aurora-postgresql" else {"binlog_format": "ROW", "binlog_row_image": "FULL"}
        if not wanted.items() <= group["Properties"]["Parameters"].items():
            wrong.append(f"{engine}'s parameters are {group['Properties']['Parameters']}")
    authentication = postgresql["Resources"]["Kafka"]["Properties"]["ClientAuthentication"]
    if authentication != {"Sasl": {"Scram": {"Enabled": True}, "Iam": {"Enabled": True}}, "Unauthenticated": {"Enabled": False}}:
        wrong.append(f"the brokers let in: {authentication}")
    topic = postgresql["Resources"]["ChangesTopic"]["Properties"]
    if topic["PartitionCount"] != {"Ref": "Partitions"} or topic["ReplicationFactor"] < 3:
        wrong.append(f"the topic's partitions and replicas: {topic}")
    first = decide(template, given | {"Brokers": ""})["Resources"]
    if "Replication" in first or "Kafka" not in first:
        wrong.append("the first deployment, without brokers, does not make the cluster alone")
    if refused_by_rules(template, given | {"DatabaseName": ""}) == []:
        wrong.append("PostgreSQL without a database is taken")
    for statement in statements(postgresql, "DmsSecretRole"):
        if any("*" in entry for entry in listed(statement["Action"]) + listed(statement["Resource"]) if isinstance(entry, str)):
            wrong.append("DMS may do more than read its secret")
    return wrong


def check_runbook(text: str, template: dict, facts: dict) -> list[str]:
    """A section for each alarm and each error type, and for no others."""
    sections: dict[str, list[str]] = {}
    part = ""
    for line in text.splitlines():
        if line.startswith("## "):
            part = line[3:].strip()
        elif line.startswith("### "):
            sections.setdefault(part, []).append(line[4:].strip().strip("`"))
    wrong = []
    alarms = {alarm["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("${AWS::StackName}-") for alarm in of_type(template, "AWS::CloudWatch::Alarm").values()}
    for part, wanted in (("Alarms", alarms), ("Error types", set(facts["error_types"]))):
        found = sections.get(part, [])
        if set(found) != wanted or len(found) != len(set(found)):
            wrong.append(f"{part}: no section for {sorted(wanted - set(found))}, one too many for {sorted(set(found) - wanted)}")
    return wrong


def findings(text: str, facts: dict, with_lint: bool) -> list[str]:
    """Everything that is wrong with template.yaml."""
    try:
        written, template = parse(text), transformed(text)
    except Refused as error:
        return [f"transform: {error}"]
    found = []

    def run(kind: str, check, *arguments) -> None:
        try:
            found.extend(f"{kind}: {line}" for line in check(*arguments))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # A template of another form than the check's is none that anybody has checked.
            found.append(f"{kind}: it is not of the expected form: {error!r}")

    if with_lint:
        run("lint", lint, template)
    run("parameters", check_parameters, written)
    run("nonsense", check_nonsense, written)
    run("binaries", check_binaries, written, facts)
    for name, deployment in DEPLOYMENTS.items():
        decided = decide(template, deployment)
        for kind, check in (
            ("event-source", check_event_source),
            ("iam", check_iam),
            ("schedule", check_schedule),
            ("retention", check_retention),
            ("functions", check_functions),
        ):
            run(kind, check, decided, deployment, name)
        for kind, check in (("environment", check_environment), ("alarms", check_alarms), ("dashboard", check_dashboard)):
            run(kind, check, decided, deployment, name, facts)
    return sorted(set(found))


def source_findings(text: str, with_lint: bool) -> list[str]:
    """Everything that is wrong with infra/source.yaml."""
    template = parse(text)
    found = [f"lint: {line}" for line in lint(template)] if with_lint else []
    found += [f"parameters: {line}" for line in check_parameters(template)]
    return found + [f"source: {line}" for line in check_source(template)]
