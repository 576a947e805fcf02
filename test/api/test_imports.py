"""The client of the REST API is for notebooks and the command line: it brings no server's libraries with it."""

import subprocess
import sys


def test_the_client_brings_neither_grpc_nor_a_web_server_nor_a_store_s_driver() -> None:
    brought = "import sys, fedn_py.api; print(*{'grpc', 'flask', 'uvicorn', 'pymongo', 'minio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", brought], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
