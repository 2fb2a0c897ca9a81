"""A host of MTA-STS policies (RFC 8461 3.3)."""

import http.server
import threading

# Filled in: the mode, lines of mx, the seconds that it counts.
POLICY = "version: STSv1\r\nmode: %s\r\n%smax_age: %d\r\n"


class PolicyHost:
    """An HTTPS server of policies. answers: name of the host: (status, type, text, seconds to wait)."""

    def __init__(self, address, port, context):
        self.answers, self.asked = {}, []
        self.ended = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                host = self.headers["Host"].split(":")[0]
                outer.asked.append((host, self.path))
                status, kind, text, wait = outer.answers.get(host, (404, "text/plain", "", 0))
                outer.ended.wait(wait)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if status == 301:
                    self.send_header("Location", "https://mta-sts.good.sts.example/")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, port), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # clients go away
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
