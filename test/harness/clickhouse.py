"""A private ClickHouse (Debian's 18.16), small: own configuration and data directory, any user."""
import os
import shutil
import urllib.parse

from . import http
from .proc import Child, free_port, new_dir
from .servers import Server
from .wait import wait_until

PASSWORD = "it's \\ a: p@ss/word"

CONFIG = """<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
  <max_connections>64</max_connections><keep_alive_timeout>10</keep_alive_timeout>
  <max_concurrent_queries>32</max_concurrent_queries>
  <uncompressed_cache_size>0</uncompressed_cache_size><mark_cache_size>5242880</mark_cache_size>
  <path>{dir}/data/</path><tmp_path>{dir}/tmp/</tmp_path><user_files_path>{dir}/files/</user_files_path>
  <users_config>users.xml</users_config><default_profile>default</default_profile>
  <default_database>default</default_database><timezone>UTC</timezone>
</yandex>
"""

# `reader` may read and set nothing (readonly=1): all that weir needs.
USERS = """<yandex>
  <profiles><default><max_memory_usage>500000000</max_memory_usage><max_threads>2</max_threads></default>
    <ro><readonly>1</readonly></ro></profiles>
  <quotas><default/></quotas>
  <users>
    <default><password></password><networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota></default>
    <reader><password>{password}</password><networks><ip>127.0.0.1</ip></networks>
      <profile>ro</profile><quota>default</quota></reader>
  </users>
</yandex>
"""


def installed():
    return shutil.which("clickhouse-server", path=os.environ["PATH"] + ":/usr/sbin:/usr/bin")


class ClickHouse(Server):
    def __init__(self):
        self.dir, self.port, self.tcp_port = new_dir("clickhouse"), free_port(), free_port()
        self.log_path = os.path.join(self.dir, "clickhouse.log")
        for name in ("data", "tmp", "files"):
            os.mkdir(os.path.join(self.dir, name))
        self._write("config.xml", CONFIG.format(http=self.port, tcp=self.tcp_port, dir=self.dir))
        self._write("users.xml", USERS.format(password=PASSWORD))

    def _write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def start(self):
        argv = [installed(), f"--config-file={self.dir}/config.xml"]
        self.child = Child("clickhouse-server", argv, self.log_path, cwd=self.dir,
                           env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})

        def up():
            assert self.child.alive(), self.child.log()
            return self.get("/ping").status == 200
        wait_until(up, 60, "clickhouse-server")
        return self

    def get(self, path):
        return http.request(self.port, "GET", path, timeout=5)

    def post(self, sql, params="", port=None):
        sql = sql if isinstance(sql, bytes) else sql.encode()
        return http.request(port or self.port, "POST", "/?" + params, body=sql, timeout=30)

    def query(self, sql):
        r = self.post(sql, "wait_end_of_query=1")
        assert r.status == 200, r
        return [line.split("\t") for line in r.body.decode().splitlines()]

    def url(self, port=None, user="reader", params=""):
        secret = urllib.parse.quote(PASSWORD, safe="")
        auth = f"{user}:{secret}@" if user else ""
        return f"http://{auth}127.0.0.1:{port or self.port}/{'?' + params if params else ''}"
