"""What should not be in an image is told with its rule and how to mend it, and no secret's value with it."""

from __future__ import annotations

import json

from archives import archive, packed
from distribution import Distribution
from images import config, fill, image

from regnb.oci.leaks import leaks, masked, shown
from regnb.registry import connect

# Put together here, so that the file itself holds nothing that looks like a secret.
VALUE = "Qx7kP2vR9" + "mT4wZ8"
SECRETS = {
    "AWS access key": "RUN aws configure set aws_access_key_id AK" + "IAIOSFODNN7ABCDEFG",
    "AWS secret key": f"ENV AWS_SECRET_ACCESS_KEY={VALUE}{VALUE}",
    "GitHub token": "RUN git clone https://github.com && echo gh" + "p_" + "a1B2" * 9,
    "URL with a password": f"RUN pip install --index-url https://bot:{VALUE}@pypi.example/simple x",
    "password in the environment": f"DB_PASSWORD={VALUE}",
    "private key": "RUN echo '-----BEGIN RSA " + "PRIVATE KEY-----' > /root/.ssh/id_rsa",
    "bearer token": f"RUN curl -H 'Authorization: Bearer {VALUE}' https://api.example",
    "basic login": f"RUN curl -u deploy:{VALUE} https://api.example",
    "build argument": f"|1 NPM_TOKEN={VALUE} /bin/sh -c npm ci",
}
"""Nine kinds of secrets, as histories and environments have them."""
HARMLESS = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "GPG_KEY=E3FF2839C048B25C084DEBE9B26995E310250568",
    "PYTHON_SHA256=8d3ed8ec5c88c1c95f5e558612a725450d2452813ddad5e58fdb1a53b1209b78",
    "DB_PASSWORD_FILE=/run/secrets/db-password",
    "DB_PASSWORD=",
    "RUN --mount=type=secret,id=npm_token npm ci",
    "ARG GITHUB_TOKEN",
    "RUN NPM_TOKEN=${NPM_TOKEN} npm ci",
    "RUN git clone https://git@github.com/owner/repository.git",
    "MYSQL_ALLOW_EMPTY_PASSWORD=yes",
    "TOKENIZERS_PARALLELISM=false",
    "TOKEN_TTL=3600",
    "COPY file:5d673d25da3a14ce1f6cf66e4c7fd4f4b85a3759a9d93efb3fd9ff852b5b56e4 in /",
    'RUN echo "$PASSWORD" | docker login --username bot --password-stdin https://registry.example:5000/',
    "SECRET_NAME=production/database",
    "KEYCLOAK_VERSION=24.0.1",
]
"""Sixteen lines that are not."""
LABELS = ("source", "revision", "version")


def test_secrets_are_found_and_harmless_lines_are_not() -> None:
    """At least 8 of 9 kinds are found, and at most 1 of 16 harmless lines is flagged."""
    found = {kind: leaks(line) for kind, line in SECRETS.items()}
    flagged = {line: leaks(line) for line in HARMLESS}
    assert sum(map(bool, found.values())) >= 8, found
    assert sum(map(bool, flagged.values())) <= 1, flagged
    assert VALUE not in json.dumps(found)


def test_a_line_is_shown_without_the_values_of_its_secrets() -> None:
    """Everything that is found is masked where the line is shown; a line without secrets stays as it is."""
    found = {kind: masked(line) for kind, line in SECRETS.items()}
    assert all("***" in line for line in found.values())
    assert VALUE not in json.dumps(found)
    assert "IOSFODNN7" not in found["AWS access key"]
    assert "a1B2" not in found["GitHub token"]
    assert found["basic login"] == "RUN curl -u deploy:*** https://api.example"
    assert [masked(line) for line in HARMLESS] == HARMLESS
    assert masked(f"ENV A=b DB_PASSWORD=two {VALUE} C=d") == "ENV A=b DB_PASSWORD=*** C=d"
    assert masked(f"RUN echo '-----BEGIN PRIVATE KEY-----\n{VALUE}\n'").endswith("KEY-----***")
    assert shown("DB_PASSWORD", f"two {VALUE}") == "***"


def test_long_lines_take_no_time() -> None:
    """Lines made so that patterns go back and forth: each is looked at up to a length, and ends."""
    for part in ("curl ", "eyJ-", "a.", "-----BEGIN ", "$", "A=", "x://", "authorization: "):
        assert len(masked(part * (100_000 // len(part))) and leaks(part * (100_000 // len(part)))) <= 3


def test_findings_of_an_image(real: Distribution) -> None:
    """Secrets in history, environment and files, root, labels, caches and tools; nothing holds a secret's value."""
    layer = [
        ("var/lib/apt/lists/deb.debian.org_dists_x_Packages", "file", b"x" * 500),
        ("usr/bin/gcc-12", "file", b"x" * 300),
        ("root/.ssh/id_rsa", "file", VALUE.encode()),
        ("etc/ssh/ssh_host_rsa_key", "file", VALUE.encode()),
        ("etc/ssh/ssh_host_rsa_key.pub", "file", b"public"),
    ]
    about = config(
        commands=[SECRETS["basic login"], "RUN rm /root/.ssh/id_rsa"],
        config={"Env": [SECRETS["password in the environment"], "PATH=/bin"], "Labels": {"a": "b", "api_token": VALUE}},
    )
    gone = packed(archive([("root/.ssh/.wh.id_rsa", "file", b"")]))
    clean = config(config={"User": "1000", "Labels": {f"org.opencontainers.image.{name}": "x" for name in LABELS}})
    fill(
        real.url, ("a", "1", image([packed(archive(layer)), gone], about=about)), ("a", "2", image([gone], about=clean))
    )
    with connect(real.url) as registry:
        found = registry.hygiene("a:1")
        assert registry.hygiene("a:2").empty
        files, about = registry.files("a:1"), registry.image("a:1")
        assert "RUN curl -u deploy:*** https://api.example" in set(files["command"])
        shown_ = about._repr_html_() + about.compare(registry.image("a:2")).to_json()
        assert VALUE not in files.to_json() + shown_
        inventory = registry.inventory()
        # Another reading has the same from what was kept of the configs.
        again = registry.inventory()
        whole = inventory.find_hygiene(registry)
    by_config = inventory.hygiene
    assert by_config.equals(again.hygiene)
    assert by_config["rule"].tolist() == found["rule"].tolist()[:4]
    assert set(by_config["image"]) == {"1"}
    assert (by_config["mend"] != "").all()
    assert whole["rule"].tolist() == found["rule"].tolist()
    assert VALUE not in by_config.to_json() + inventory.findings.to_json() + whole.to_json()
    assert VALUE not in inventory.layers.to_json() + inventory.labels.to_json()
    assert "api_token=***" in inventory.labels["label"].astype("str").tolist()
    assert found[["rule", "where", "position", "size"]].to_numpy().tolist() == [
        ["secret in environment", "environment: DB_PASSWORD", -1, 0],
        ["secret in history", "history: step 0", 0, 0],
        ["root user", "config: User", -1, 0],
        ["missing labels", "config: Labels", -1, 0],
        ["secret file", "root/.ssh/id_rsa", 0, 15],
        ["secret file", "etc/ssh/ssh_host_rsa_key", 0, 15],
        ["package cache", "layer 0", 0, 500],
        ["build tools", "layer 0", 0, 300],
    ]
    assert "which a later layer hides: it can still be read" in found["found"][4]
    assert (found["mend"] != "").all()
    assert VALUE not in found.to_json() + found._repr_html_()
