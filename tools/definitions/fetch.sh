#!/bin/sh
# Fetches the published definitions and unpacks them for `emberpost-definitions`.
#   fetch.sh DIR    leaves DIR/r4, DIR/r4b, DIR/r5 and DIR/extensions; wants mvn, npm, sha256sum and unzip
set -eu
out=${1:?usage: fetch.sh DIR}
release=8.8.1
extensions=5.3.0-ballot-tc1
mkdir -p "$out"

fetch() {
    name=hapi-fhir-validation-resources-$1
    jar=$out/$name-$release.jar
    mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
        -Dartifact="ca.uhn.hapi.fhir:$name:$release" -DoutputDirectory="$out"
    echo "$2  $jar" | sha256sum --check --quiet
    rm -rf "${out:?}/$1"
    unzip -q "$jar" -d "$out/$1"
}

fetch r4 801cb6de72b4a9bbbf6589dcf1327b4c9626564105233d9e213066f0183ea0b1
fetch r4b 71c762afb81cc9be0abba8d08b8208bdd14196c284e3f0ec69802f40165af956
fetch r5 913172549df8c02993c9ed8e009e4bc3917189490296b0cba5836844990e48b7

pack() {
    (cd "$out/extensions" && npm pack --silent "hl7.fhir.uv.extensions.$1@$extensions" >/dev/null)
    mv "$out/extensions/hl7.fhir.uv.extensions.$1-$extensions.tgz" "$out/extensions/$1.tgz"
    echo "$2  $out/extensions/$1.tgz" | sha256sum --check --quiet
}

mkdir -p "$out/extensions"
pack r4 54f70616bbd444ba0259d5fc5a5c978d463971865f23dcef3103081f529ad213
pack r5 33a55f290663f3f9d61c9dbdeb0be6ef10d0e64b54af539d1d557585c8f9e1c2
