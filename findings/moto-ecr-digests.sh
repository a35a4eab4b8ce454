#!/usr/bin/env bash
# moto 5.2.5: in its ECR one digest is two different images, and it is the digest of neither manifest.
#
# Two manifests name the same layer and different configurations (a rebuild that changed an environment variable). Put under the
# tags "old" and "new", both get one imageDigest, which is the sha256 of neither. Asked for that digest, batch_get_image returns two
# images; batch_delete_image deletes the first and leaves the second, with the same digest. imageSizeInBytes is the size of the
# configuration: 7 bytes for an image of 50 MB.
# Why it surprises: the ECR API reference calls imageDigest "The sha256 digest of the image manifest" (ImageIdentifier, ImageDetail),
# and imageSizeInBytes the size of the image in the repository. In moto's source the digest is a hash of the layers' digests.
# What it means: tests of a clean-up job that run on moto prove nothing about digests, sizes or siblings. A job that checks
# "the digest is gone" fails there although it is right, and one that adds up sizes passes although it is wrong. Test the
# deletion itself on a real registry.
#
# Needs python3; moto comes from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'moto[ecr]==5.2.5'
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1
"$work/venv/bin/python" - <<'PYTHON'
import hashlib, json
import boto3, moto

def manifest(configuration):
    docker = "application/vnd.docker."
    return json.dumps({
        "schemaVersion": 2, "mediaType": docker + "distribution.manifest.v2+json",
        "config": {"mediaType": docker + "container.image.v1+json", "size": 7, "digest": "sha256:" + configuration * 64},
        "layers": [{"mediaType": docker + "image.rootfs.diff.tar.gzip", "size": 50_000_000, "digest": "sha256:" + "c" * 64}],
    })

print("moto", moto.__version__)
with moto.mock_aws():
    ecr = boto3.client("ecr")
    ecr.create_repository(repositoryName="team/app")
    manifests = {"old": manifest("a"), "new": manifest("b")}
    for tag, text in manifests.items():
        ecr.put_image(repositoryName="team/app", imageManifest=text, imageTag=tag)
        print(f"put {tag}: sha256:{hashlib.sha256(text.encode()).hexdigest()}")
    details = ecr.describe_images(repositoryName="team/app")["imageDetails"]
    for image in details:
        print("image:", image["imageDigest"], image["imageTags"], image["imageSizeInBytes"], "bytes")
    digest = details[0]["imageDigest"]
    got = ecr.batch_get_image(repositoryName="team/app", imageIds=[{"imageDigest": digest}])
    print("get by digest:", len(got["images"]), "images, failures:", got["failures"])
    gone = ecr.batch_delete_image(repositoryName="team/app", imageIds=[{"imageDigest": digest}])
    left = ecr.list_images(repositoryName="team/app")["imageIds"]
    print("delete by digest:", gone["imageIds"], gone["failures"], "left:", left)
assert [(image["imageTags"], image["imageSizeInBytes"]) for image in details] == [(["old"], 7), (["new"], 7)]
assert {image["imageDigest"] for image in details} == {digest}
assert digest not in {"sha256:" + hashlib.sha256(text.encode()).hexdigest() for text in manifests.values()}
assert [image["imageManifest"] for image in got["images"]] == list(manifests.values())
assert gone["imageIds"] == [{"imageDigest": digest, "imageTag": "old"}] and left == [{"imageDigest": digest, "imageTag": "new"}]
PYTHON
