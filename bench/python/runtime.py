"""Feeds a handler from Lambda's Runtime API with less work around it than AWS's own runtime client does, which is what runs on Lambda:
the body goes to the handler as bytes, so that one which parses it faster may. Usage: runtime.py MODULE, which has
`handle(body: bytes) -> bytes`."""

import http.client
import importlib
import os
import sys

handler = importlib.import_module(sys.argv[1])
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    invocation = api.getresponse()
    body = invocation.read()
    answer = handler.handle(body)
    request_id = invocation.headers["lambda-runtime-aws-request-id"]
    api.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", answer)
    api.getresponse().read()
