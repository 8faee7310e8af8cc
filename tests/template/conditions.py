"""A template with its conditions decided for one set of parameters, as CloudFormation decides them: without Fn::If, Condition and
AWS::NoValue. It must never decide anything that CloudFormation would leave to a resource."""

NOTHING = object()


def parameters_of(template: dict, given: dict[str, str]) -> dict[str, str]:
    """Every parameter's value: given, or its default."""
    values = {}
    for name, parameter in template["Parameters"].items():
        if name in given:
            values[name] = str(given[name])
        elif "Default" in parameter:
            values[name] = str(parameter["Default"])
        else:
            raise ValueError(f"the parameter {name} has no default and was not given")
    unknown = given.keys() - values.keys()
    if unknown:
        raise ValueError(f"no such parameters: {sorted(unknown)}")
    return values


def decide(template: dict, given: dict[str, str]) -> dict:
    """The template for these parameters."""
    values = parameters_of(template, given)
    decided: dict[str, bool] = {}

    def condition(name: str) -> bool:
        if name not in decided:
            decided[name] = holds(template["Conditions"][name], values, condition)
        return decided[name]

    def walk(node):
        if isinstance(node, dict):
            if node == {"Ref": "AWS::NoValue"}:
                return NOTHING
            if set(node) == {"Fn::If"}:
                name, then, otherwise = node["Fn::If"]
                return walk(then if condition(name) else otherwise)
            pairs = ((key, walk(value)) for key, value in node.items())
            return {key: value for key, value in pairs if value is not NOTHING}
        if isinstance(node, list):
            return [value for value in map(walk, node) if value is not NOTHING]
        return node

    result = {}
    for section, content in template.items():
        if section in ("Conditions", "Rules"):
            continue
        if section in ("Resources", "Outputs"):
            kept = {key: item for key, item in content.items() if "Condition" not in item or condition(item["Condition"])}
            content = {key: {k: v for k, v in item.items() if k != "Condition"} for key, item in kept.items()}
        result[section] = walk(content)
    return result


def holds(node, values: dict[str, str], condition) -> bool:
    """Whether a condition function holds."""
    (function, argument), = node.items()
    if function == "Condition":
        return condition(argument)
    if function == "Fn::Not":
        return not holds(argument[0], values, condition)
    if function == "Fn::And":
        return all(holds(part, values, condition) for part in argument)
    if function == "Fn::Or":
        return any(holds(part, values, condition) for part in argument)
    if function == "Fn::Equals":
        left, right = (values[side["Ref"]] if isinstance(side, dict) else side for side in argument)
        return str(left) == str(right)
    raise ValueError(f"{function} is no condition function")


def refused_by_rules(template: dict, given: dict[str, str]) -> list[str]:
    """What CloudFormation says before it makes anything: the assertions that these parameters break, by their descriptions."""
    values = parameters_of(template, given)
    refused = []
    for rule in template.get("Rules", {}).values():
        if "RuleCondition" in rule and not holds(rule["RuleCondition"], values, None):
            continue
        for assertion in rule["Assertions"]:
            if not holds(assertion["Assert"], values, None):
                refused.append(assertion["AssertDescription"])
    return refused


def refused_by_patterns(template: dict, given: dict[str, str]) -> list[str]:
    """The parameters whose value their own constraints refuse."""
    import re

    refused = []
    for name, value in parameters_of(template, given).items():
        parameter = template["Parameters"][name]
        fits = (
            (parameter["Type"] != "Number" or re.fullmatch(r"-?\d+(\.\d+)?", value))
            and re.search(parameter.get("AllowedPattern", ""), value)
            and ("AllowedValues" not in parameter or value in map(str, parameter["AllowedValues"]))
            and len(value) >= int(parameter.get("MinLength", 0))
            and ("MinValue" not in parameter or float(value) >= float(parameter["MinValue"]))
            and ("MaxValue" not in parameter or float(value) <= float(parameter["MaxValue"]))
        )
        if not fits:
            refused.append(name)
    return refused
