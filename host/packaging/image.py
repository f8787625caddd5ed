#!/usr/bin/env python3
"""image.py ROOT OUT VERSION SECONDS: an OCI archive of the files under ROOT, for which no daemon is needed.

The same files give the same bytes: entries are sorted, belong to nobody of this machine, and are SECONDS old since 1970.
The archive has Docker's own `manifest.json`, too, so that `docker load` takes it whatever its version.
"""
import datetime
import gzip
import hashlib
import io
import json
import platform
import sys
import tarfile
from pathlib import Path

USER = 10001
OWNED = "var/lib/bellhop"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CONFIG = "/etc/bellhop/bellhop.toml"


def entry(name, seconds, mode):
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = seconds, mode
    return info


def layer(root, seconds):
    """The files as a tar; folders before what is in them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_symlink():
                info = entry(name, seconds, 0o777)
                info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(info)
            elif path.is_dir():
                owned, scratch = name == OWNED, name == "tmp"
                info = entry(name, seconds, 0o700 if owned else 0o1777 if scratch else 0o755)
                info.type = tarfile.DIRTYPE
                if owned:
                    info.uid = info.gid = USER
                tar.addfile(info)
            else:
                data = path.read_bytes()
                info = entry(name, seconds, 0o755 if path.stat().st_mode & 0o111 else 0o644)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def settings():
    """What the Dockerfile says."""
    second = 1_000_000_000
    return {
        "User": f"{USER}:{USER}",
        "ExposedPorts": {"7420/tcp": {}},
        "Env": ["PATH=/usr/bin"],
        "Entrypoint": ["/usr/bin/bellhop"],
        "Cmd": ["serve", "--config", CONFIG, "--first-token-file", "/var/lib/bellhop/first-token"],
        "Volumes": {"/var/lib/bellhop": {}},
        "WorkingDir": "/var/lib/bellhop",
        "StopSignal": "SIGTERM",
        "Healthcheck": {
            "Test": ["CMD", "/usr/bin/bellhop", "doctor", "--live", "--config", CONFIG],
            "Interval": 30 * second,
            "Timeout": 10 * second,
            "StartPeriod": 60 * second,
        },
    }


class Blobs:
    def __init__(self):
        self.data = {}

    def put(self, data, media, **more):
        digest = hashlib.sha256(data).hexdigest()
        self.data[digest] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data), **more}


def text(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def main(root, out, version, seconds):
    seconds = int(seconds)
    made = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    architecture = ARCHITECTURES[platform.machine()]
    oci, blobs = "application/vnd.oci.image", Blobs()
    plain = layer(Path(root), seconds)
    packed = blobs.put(gzip.compress(plain, 9, mtime=0), f"{oci}.layer.v1.tar+gzip")
    config = blobs.put(
        text({
            "created": made,
            "architecture": architecture,
            "os": "linux",
            "config": settings(),
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
            "history": [{"created": made, "created_by": "make package"}],
        }),
        f"{oci}.config.v1+json",
    )
    manifest = blobs.put(
        text({"schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "config": config, "layers": [packed]}),
        f"{oci}.manifest.v1+json",
        platform={"architecture": architecture, "os": "linux"},
        annotations={
            "org.opencontainers.image.ref.name": version,
            "io.containerd.image.name": f"docker.io/library/bellhop:{version}",
        },
    )
    blob = lambda descriptor: "blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")
    files = {
        "oci-layout": text({"imageLayoutVersion": "1.0.0"}),
        "index.json": text({"schemaVersion": 2, "mediaType": f"{oci}.index.v1+json", "manifests": [manifest]}),
        "manifest.json": text([{"Config": blob(config), "RepoTags": [f"bellhop:{version}"], "Layers": [blob(packed)]}]),
        **{f"blobs/sha256/{digest}": data for digest, data in blobs.data.items()},
    }
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder in ["blobs", "blobs/sha256"]:
            info = entry(folder, seconds, 0o755)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for name, data in sorted(files.items()):
            info = entry(name, seconds, 0o644)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    print(f"image: {out}, {len(plain) >> 20} MB, {manifest['digest']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
