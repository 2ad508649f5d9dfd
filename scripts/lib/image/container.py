"""A root folder like the image's, and processes in it: read-only, without rights, as process 1."""

import os
import pathlib
import re
import shutil
import subprocess
import time

# Libraries in the base of the image. A bundle must contain all others.
GLIBC = re.compile(r"ld-linux.*|lib(c|m|dl|pthread|rt|resolv)\.so\..*")
DEVICES = ["/dev/null", "/dev/zero", "/dev/urandom"]
SECRETS = "/run/secrets"


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def bind(source, target):
    mount("--bind", source, target)
    mount("-o", "remount,bind,ro", target)


class Container:
    token = "secret123"

    def __init__(self, image, built, work):
        self.image = image
        self.root = work / "root"
        self.log = work / "log"
        self.process = None
        self._copy(built)
        self._add_base(built.is_dir())
        self.secrets = work / "secrets"
        self.secrets.mkdir()
        (self.secrets / "token").write_text(self.token + "\n")

    def _inside(self, path):
        return self.root / str(path).lstrip("/")

    def _copy(self, built):
        """Copies what the Dockerfile copies."""
        program = self._inside(self.image.program)
        program.parent.parent.mkdir(parents=True)
        if built.is_dir():
            shutil.copytree(built, program.parent)
        else:
            program.parent.mkdir()
            shutil.copy(built, program)
        link = self._inside(self.image.entrypoint[0])
        link.parent.mkdir()
        link.symlink_to(os.path.relpath(program, link.parent))

    def _add_base(self, is_bundle):
        """Adds what the base of the image contains, as far as a program can notice."""
        for folder in [*self.image.mount_points, SECRETS, "/dev", "/etc", "/proc", "/sys", "/tmp"]:
            self._inside(folder).mkdir(parents=True)
        passwd = f"nonroot:x:{self.image.user}:{self.image.group}::/home/nonroot:/sbin/nologin\n"
        self._inside("/etc/passwd").write_text(passwd)
        for device in DEVICES:
            self._inside(device).touch()
        for library in self._libraries(is_bundle):
            target = self._inside(library)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)

    def _libraries(self, is_bundle):
        """Returns the system libraries that the program and the libraries next to it need."""
        folder = self._inside(self.image.program).parent
        wanted = set()
        # The program's library path applies to libraries that it loads later, too.
        beside = {**os.environ, "LD_LIBRARY_PATH": str(folder / "lib")}
        files = [(folder / "llama-mcp-server", None), *((file, beside) for file in folder.glob("lib/*.so*"))]
        for file, environment in files:
            libraries = subprocess.run(["ldd", file], check=True, capture_output=True, text=True, env=environment).stdout
            if "not found" in libraries:
                raise SystemExit(f"error: a library that `{file.name}` needs is missing\n{libraries}")
            wanted.update(re.findall(r"(/\S+) \(0x", libraries))
        # The program finds libraries next to it through its library path.
        wanted = {library for library in wanted if not (folder / "lib" / pathlib.Path(library).name).exists()}
        beyond = [library for library in wanted if not GLIBC.fullmatch(pathlib.Path(library).name)]
        if is_bundle and beyond:
            raise SystemExit(f"error: the base of the image has only glibc, but the bundle also needs {', '.join(beyond)}")
        return wanted

    def close(self, mounts):
        """Mounts what a container engine mounts, and `mounts` (folders by mount point), and makes everything read-only."""
        bind(self.root, self.root)
        for device in DEVICES:
            mount("--bind", device, self._inside(device))
        for place, source in {**mounts, SECRETS: self.secrets, "/sys": "/sys"}.items():
            bind(source, self._inside(place))
        mount("-t", "tmpfs", "tmpfs", self._inside("/tmp"))

    def _with_variables(self, arguments):
        variables = {**self.image.environment, "LLAMA_MCP_AUTH_FILE": f"{SECRETS}/token"}
        return ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *map(str, arguments)]

    def _user(self):
        return ["--setgid", self.image.group, "--setuid", self.image.user]

    def _entered(self, arguments):
        """Returns the command that runs the entrypoint as process 1, without a way to gain rights."""
        enter = ["setpriv", "--no-new-privs", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "--root", self.root, "--wd", self.image.folder, *self._user()]
        return self._with_variables([*enter, *self.image.entrypoint, *arguments])

    def run(self, arguments):
        """Runs the image until it ends. Returns its exit code and its output."""
        done = subprocess.run(
            self._entered(arguments), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        return done.returncode, done.stderr

    def start(self, arguments):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(self._entered(arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        self.process_1 = self._await_program()

    def _await_program(self):
        """Waits until process 1 runs the program, and returns its pid outside of the namespace."""
        outer = self.process.pid
        while self.process.poll() is None:
            inner = pathlib.Path(f"/proc/{outer}/task/{outer}/children").read_text().strip()
            if inner and pathlib.Path(f"/proc/{inner}/comm").read_text() == "llama-mcp-serve\n":
                return int(inner)
            time.sleep(0.01)
        raise SystemExit(f"error: the server ended at once with exit code {self.process.returncode}")

    def health(self):
        """Runs the health check of the image inside, and returns its exit code."""
        enter = ["nsenter", "--target", self.process_1, "--mount", "--pid", "--root", "--wd", *self._user()]
        command = self._with_variables([*enter, *self.image.health])
        return subprocess.run(command, capture_output=True, timeout=30).returncode

    def read_log(self):
        return self.log.read_text() if self.log.exists() else ""
