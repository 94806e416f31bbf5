"""What a Python process under test runs: `python python.py PORT`. Whatever comes over the socket is run in `__main__`,
as in a terminal that allows `await`; what goes back is what that terminal would show. The output stays free for the
program."""

import ast
import inspect
import os
import socket
import sys
import traceback


def _take(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            os._exit(0)
        data += part
    return data


def _execute(code):
    from otplib import process

    value = eval(code, globals())
    return process.drive(value) if code.co_flags & inspect.CO_COROUTINE else value


def _run(source):
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    _execute(compile(tree, "<test>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
    if last is None:
        return "None"
    return repr(_execute(compile(ast.Expression(last.value), "<test>", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)))


def _serve(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        reply = b"ready"
        while True:
            connection.sendall(len(reply).to_bytes(4, "big") + reply)
            source = _take(connection, int.from_bytes(_take(connection, 4), "big")).decode()
            try:
                reply = _run(source).encode()
            except BaseException as error:
                reply = ("** " + "".join(traceback.format_exception_only(error)).strip()).encode()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
