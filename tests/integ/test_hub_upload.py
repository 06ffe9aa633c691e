# SPDX-License-Identifier: GPL-3.0-or-later
"""File upload at wire level: the device's requests, the hub's own blob storage, and what the service hears of it."""
import base64
import hashlib
import json
import os
import re

import hubrest
import pytest
from labctl import wait_for

pytestmark = pytest.mark.hub
LAB = {"children": 4, "build": "asan"}
BLOB = {"x-ms-blob-type": "BlockBlob"}


@pytest.fixture(autouse=True)
def clean(lab):
    yield
    assert "ERROR: AddressSanitizer" not in lab.log("hub") and "runtime error" not in lab.log("hub")


def connect(lab, token=None):
    with lab.inside("hub"):
        return hubrest.Https(lab.ca, token)


def again(lab, c):
    with lab.inside("hub"):
        c.connect()


def device(lab, n):
    row = lab.children()[n]
    return row["deviceId"], connect(lab, lab.token(row))


def error_of(data):
    return json.loads(data)["Message"].partition(";")[0].removeprefix("ErrorCode:")


def start(c, name, file):
    status, _, body = c.raw("POST", f"/devices/{name}/files", json.dumps({"blobName": file}))
    assert status == 200, body
    t = json.loads(body)
    assert set(t) == {"correlationId", "hostName", "containerName", "blobName", "sasToken"}
    t["path"] = f"/{t['containerName']}/{t['blobName']}{t['sasToken']}"
    return t


def finish(c, name, ticket, success=True, in_path=False, **more):
    body = {"isSuccess": success, "statusCode": 200, "statusDescription": "ok", **more}
    if not in_path:
        body["correlationId"] = ticket["correlationId"]
    tail = f"/{ticket['correlationId']}" if in_path else "/"
    return c.raw("POST", f"/devices/{name}/files/notifications{tail}", json.dumps(body), {"iothub-name": "hub"})


def notification(service, blob):
    def step():
        status, headers, body = service.raw("GET", "/messages/serviceBound/filenotifications")
        if status == 204:
            return None
        assert headers["Content-Type"] == "application/vnd.microsoft.iothub.filenotification.json"
        lock = headers["ETag"].strip('"')
        assert service.raw("DELETE", f"/messages/serviceBound/filenotifications/{lock}")[0] == 204
        record = json.loads(body)
        return record if record["blobName"] == blob else None
    return wait_for("the file notification", 30, step)


def listed(lab):
    return {b["blobName"]: b for b in lab.hub_ctl("blob.list")}


def on_disk(lab):
    return sorted(os.listdir(lab.path("hub-data", "blobs")))


@pytest.mark.parametrize("in_path", [False, True])
def test_one_piece_both_ways_to_finish(lab, service, in_path):
    name, c = device(lab, 0)
    t = start(c, name, f"a/{in_path}.txt")
    assert (t["hostName"], t["blobName"]) == ("hub.holdfast.test", f"{name}/a/{in_path}.txt")
    anonymous = connect(lab)
    body = os.urandom(3 << 20)	# over what other requests may have
    status, headers, text = anonymous.raw("PUT", t["path"], body, {
        **BLOB, "x-ms-blob-content-type": "text/x-log", "Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode()})
    assert (status, text) == (201, b"") and re.fullmatch(r'"0x[0-9A-F]{16}"', headers["ETag"]) and headers["Last-Modified"]
    assert finish(c, name, t, in_path=in_path)[::2] == (204, b"")
    record = notification(service, t["blobName"])
    assert {k: record[k] for k in ("deviceId", "blobName", "blobSizeInBytes", "blobUri")} == {
        "deviceId": name, "blobName": t["blobName"], "blobSizeInBytes": len(body),
        "blobUri": f"https://hub.holdfast.test/uploads/{t['blobName']}"}
    assert record["lastUpdatedTime"] and record["enqueuedTimeUtc"]
    status, headers, text = anonymous.raw("GET", t["path"])
    assert (status, text, headers["Content-Type"], headers["x-ms-blob-type"]) == (200, body, "text/x-log", "BlockBlob")
    assert headers["Content-Security-Policy"] == "sandbox"
    assert anonymous.raw("GET", t["path"], headers={"x-ms-range": "bytes=5-9"})[::2] == (206, body[5:10])
    assert anonymous.raw("GET", t["path"], headers={"Range": f"bytes={len(body) - 2}-"})[::2] == (206, body[-2:])
    assert anonymous.raw("GET", t["path"], headers={"Range": f"bytes={len(body)}-"})[0] == 416
    assert anonymous.raw("GET", t["path"], headers={"If-None-Match": headers["ETag"]})[::2] == (304, b"")
    status, headers, text = anonymous.raw("HEAD", t["path"])
    assert (status, int(headers["Content-Length"]), text) == (200, len(body), b"")
    assert finish(c, name, t, in_path=in_path)[0] == 400	# once
    c.close()
    anonymous.close()


def put_list(c, path, *ids, tag="Latest"):
    xml = '<?xml version="1.0" encoding="utf-8"?>\n<BlockList>' + "".join(f"<{tag}>{i}</{tag}>" for i in ids) + "</BlockList>"
    return c.raw("PUT", path + "&comp=blocklist", xml, {"Content-Type": "application/xml"})


def test_blocks_in_any_order(lab):
    name, c = device(lab, 0)
    t = start(c, name, "blocks")
    ids = [base64.b64encode(f"{i:040}".encode()).decode() for i in range(5)]
    parts = [os.urandom(70000 + i) for i in range(5)]
    before = len(on_disk(lab))
    for i in (3, 1, 0, 4, 2):
        block = t["path"] + "&comp=block&blockid=" + ids[i].replace("=", "%3D")
        assert c.raw("PUT", block, parts[i])[0] == 201
    assert c.raw("GET", t["path"])[0] == 404	# nothing there before the list
    assert put_list(c, t["path"], ids[0], base64.b64encode(b"unknown").decode())[0] == 400
    assert put_list(c, t["path"], ids[0], ids[1], ids[3])[0] == 201
    assert c.raw("GET", t["path"])[2] == parts[0] + parts[1] + parts[3]
    assert len(on_disk(lab)) == before + 3	# what the list does not name is gone
    # A list again: an answer that was lost, or the blob made anew of its own blocks.
    assert put_list(c, t["path"], ids[0], ids[1], ids[3])[0] == 201
    assert put_list(c, t["path"], ids[3], ids[0], tag="Committed")[0] == 201
    assert put_list(c, t["path"], ids[0], tag="Uncommitted")[0] == 400
    assert c.raw("GET", t["path"])[2] == parts[3] + parts[0]
    wait_for("the files of the old blob to go", 30, lambda: len(on_disk(lab)) == before + 2)
    # In one piece over it: the blocks go, the new content counts.
    assert c.raw("PUT", t["path"], b"", BLOB)[0] == 201 and c.raw("GET", t["path"])[2] == b""
    assert put_list(c, t["path"])[0] == 201
    wait_for("all of it to go", 30, lambda: len(on_disk(lab)) == before)
    assert finish(c, name, t)[0] == 204
    c.close()


def test_conditions(lab):
    name, c = device(lab, 0)
    t = start(c, name, "conditions")
    etag = c.raw("PUT", t["path"], b"1", BLOB)[1]["ETag"]
    status, headers, body = c.raw("PUT", t["path"], b"2", {**BLOB, "If-None-Match": "*"})
    assert (status, headers["x-ms-error-code"]) == (409, "BlobAlreadyExists") and b"<Code>BlobAlreadyExists</Code>" in body
    c = connect(lab, c.token)	# the refusal came before the body
    assert c.raw("PUT", t["path"], b"2", {**BLOB, "If-Match": '"0x0"'})[0] == 412
    c = connect(lab, c.token)
    assert c.raw("PUT", t["path"], b"2", {**BLOB, "If-Match": etag})[0] == 201
    assert c.raw("GET", t["path"], headers={"If-Match": etag})[0] == 412
    assert finish(c, name, t)[0] == 204


def test_refusals_of_the_storage(lab):
    name, c = device(lab, 1)
    t = start(c, name, "refusals")
    sas, path = t["sasToken"], t["path"]

    def put(target, body=b"x", headers=BLOB):
        s = connect(lab)
        status, got, text = s.raw("PUT", target, body, headers)
        s.close()
        assert b"<Error><Code>" + got["x-ms-error-code"].encode() in text and got["Content-Type"] == "application/xml"
        return status, got["x-ms-error-code"]

    before = lab.hub_ctl("counters")[0]["blob_refused_total"]
    assert put(f"/uploads/{name}/refusals?x=1") == (403, "AuthenticationFailed")
    assert put(f"/uploads/{name}/other{sas}") == (403, "AuthenticationFailed")
    assert put(path.replace("sp=rw", "sp=rwd")) == (403, "AuthenticationFailed")
    assert put(re.sub("se=2", "se=3", path)) == (403, "AuthenticationFailed")
    assert put(re.sub("sig=.", "sig=_", path)) == (403, "AuthenticationFailed")
    assert put(f"/uploads/{name}/../{name}/refusals{sas}") == (403, "AuthenticationFailed")
    assert put(f"/uploads/%ff{sas}") == (404, "BlobNotFound")
    assert put(path, headers={}) == (400, "InvalidHeaderValue")
    assert put(path, headers={"x-ms-blob-type": "PageBlob"}) == (400, "InvalidHeaderValue")
    assert put(path, headers={**BLOB, "Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}) == (400, "Md5Mismatch")
    assert put(path, headers={**BLOB, "Content-MD5": "short"}) == (400, "InvalidHeaderValue")
    assert put(path, headers={**BLOB, "x-ms-content-crc64": "AAAAAAAAAAA="}) == (400, "InvalidHeaderValue")
    assert put(path + "&comp=lease") == (400, "InvalidQueryParameterValue")
    assert put(path + "&comp=block") == (400, "InvalidQueryParameterValue")
    assert put(path + "&comp=block&blockid=!") == (400, "InvalidQueryParameterValue")
    for xml in (b"", b"<BlockList>", b"<BlockList><Latest>eA==</Latest>", b"<x/>", b"<BlockList><Other>eA==</Other></BlockList>",
                b"<BlockList><Latest></Latest></BlockList>", b"<!DOCTYPE x><BlockList/>", b"<BlockList><Latest>" + b"x" * 500 + b"</Latest></BlockList>"):
        assert put(path + "&comp=blocklist", xml) == (400, "InvalidBlockList"), xml
    anonymous = connect(lab)
    assert anonymous.raw("DELETE", path)[0] == 405
    assert anonymous.raw("GET", path)[0] == 404
    assert lab.hub_ctl("counters")[0]["blob_refused_total"] > before + 20
    assert on_disk(lab) == [f for f in on_disk(lab) if re.fullmatch("[0-9a-f]{16}", f)]
    assert finish(c, name, t)[0] == 400	# success without a blob
    assert finish(c, name, t, success=False)[0] == 204
    c.close()


@pytest.mark.parametrize("file", ["", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a\\b", "a\nb", "x" * 1100])
def test_names_that_are_refused(lab, file):
    name, c = device(lab, 1)
    status, headers, body = c.raw("POST", f"/devices/{name}/files", json.dumps({"blobName": file}))
    assert (status, error_of(body), headers["iothub-errorcode"]) == (400, "ArgumentInvalid", "ArgumentInvalid")
    c.close()


def test_long_and_odd_names_are_kept(lab):
    name, c = device(lab, 1)
    names = ["ü/€.txt", "a b+c%25", "n" * 900 + "1", "n" * 900 + "2"]
    for file in names:
        t = start(c, name, file)
        path = "/" + "/".join(hubrest_quote(p) for p in f"{t['containerName']}/{t['blobName']}".split("/")) + t["sasToken"]
        assert c.raw("PUT", path, file.encode(), BLOB)[0] == 201
        assert finish(c, name, t)[0] == 204
        assert lab.exec("hub", "holdfast-hub", "blob", "get", t["blobName"]).stdout == file
    assert {f"{name}/{file}" for file in names} <= set(listed(lab))
    c.close()


def hubrest_quote(text):
    return "".join(ch if re.fullmatch(r"[A-Za-z0-9_.~-]", ch) else "".join(f"%{b:02X}" for b in ch.encode()) for ch in text)


def test_ten_at_a_time_and_foreign_ids(lab):
    name, c = device(lab, 2)
    other, o = device(lab, 3)
    tickets = [start(c, name, f"f{i}") for i in range(10)]
    status, headers, body = c.raw("POST", f"/devices/{name}/files", json.dumps({"blobName": "f10"}))
    assert (status, error_of(body), headers["iothub-errorcode"]) == (403, *["DeviceMaximumActiveFileUploadLimitExceeded"] * 2)
    status, _, body = finish(o, other, tickets[0], success=False)
    assert (status, error_of(body)) == (400, "InvalidFileUploadCorrelationId")
    assert finish(c, name, {"correlationId": "MjAy/x=="}, in_path=False)[0] == 400
    assert c.raw("POST", f"/devices/{name}/files/notifications/MjAy%2Fx%3D%3D", json.dumps({"isSuccess": True}))[0] == 400
    for bad in ({}, {"correlationId": 7, "isSuccess": True}, {"correlationId": tickets[0]["correlationId"]}):
        assert c.raw("POST", f"/devices/{name}/files/notifications", json.dumps(bad))[0] == 400
    assert finish(c, name, tickets[0], success=False)[0] == 204
    tickets[0] = start(c, name, "f10")
    for t in tickets:
        assert finish(c, name, t, success=False, in_path=True)[0] == 204
    c.close()
    o.close()


def test_command_line(lab, tmp_path):
    name, c = device(lab, 1)
    t = start(c, name, "cli.bin")
    body = os.urandom(500000)
    assert c.raw("PUT", t["path"], body, BLOB)[0] == 201
    assert finish(c, name, t)[0] == 204
    target = str(tmp_path / "out.bin")
    lab.exec("hub", "holdfast-hub", "blob", "get", t["blobName"], "-f", target)
    with open(target, "rb") as f:
        assert f.read() == body
    assert listed(lab)[t["blobName"]]["blobSizeInBytes"] == len(body)
    assert t["blobName"] in lab.exec("hub", "holdfast-hub", "blob", "list").stdout
    files = len(on_disk(lab))
    lab.exec("hub", "holdfast-hub", "blob", "delete", t["blobName"])
    assert t["blobName"] not in listed(lab) and len(on_disk(lab)) == files - 1
    for words in (["get", "no/such"], ["get", "no/such", "-f", target], ["delete", "no/such"]):
        r = lab.exec("hub", "holdfast-hub", "blob", *words, check=False)
        assert r.returncode == 1 and "blob list" in r.stderr
    with open(target, "rb") as f:
        assert f.read() == body	# what is not there replaces nothing
    empty = start(c, name, "empty.bin")
    assert c.raw("PUT", empty["path"], b"", BLOB)[0] == 201
    lab.exec("hub", "holdfast-hub", "blob", "get", empty["blobName"], "-f", target)
    assert os.path.getsize(target) == 0
    r = lab.exec("hub", "holdfast-hub", "blob", "get", empty["blobName"], "-f", str(tmp_path / "none" / "x"), check=False)
    assert r.returncode == 1 and "No such file" in r.stderr
    assert finish(c, name, empty)[0] == 204
    c.close()


# --- what survives, what is bounded: each restarts the hub ------------------------------------------------------------------------

def reconfigure(lab, text):
    """Settings of the storage group, by the hub's own restart."""
    path = lab.path("hub.conf")
    with open(path, encoding="utf-8") as f:
        conf = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(re.sub(r'(storage: \{ dir = "[^"]*";)[^}]*\}', rf"\1 {text} }}", conf))
    lab.hub("restart")


def test_kill_loses_nothing_answered(lab):
    name, c = device(lab, 3)
    t, half = start(c, name, "kept"), start(c, name, "half")
    blocks = [base64.b64encode(b"%08d" % i).decode() for i in range(3)]
    body = os.urandom(200000)
    assert c.raw("PUT", t["path"], body, BLOB)[0] == 201
    for b in blocks:
        assert c.raw("PUT", f"{half['path']}&comp=block&blockid={b.replace('=', '%3D')}", b.encode())[0] == 201
    # One whose body never ends: its file has no record.
    files, cut = len(on_disk(lab)), connect(lab)
    cut.http.sock.sendall(f"PUT {start(c, name, 'cut')['path']} HTTP/1.1\r\nHost: h\r\nx-ms-blob-type: BlockBlob\r\n"
                          "Content-Length: 100000\r\n\r\n".encode() + b"x" * 5000)
    wait_for("its file", 30, lambda: len(on_disk(lab)) == files + 1)
    lab.hub("kill")
    lab.hub("start")
    assert len(on_disk(lab)) == files
    again(lab, c)
    assert c.raw("GET", t["path"])[2] == body
    assert put_list(c, half["path"], *blocks)[0] == 201
    assert c.raw("GET", half["path"])[2] == "".join(blocks).encode()
    for ticket in (t, half):
        assert finish(c, name, ticket)[0] == 204
    c.close()


def test_sizes_and_budget(lab):
    name, c = device(lab, 2)
    reconfigure(lab, 'max_blob_bytes = "100 KiB"; durability = "sync";')
    again(lab, c)
    t = start(c, name, "limits")
    for headers, body in (({"Content-Length": str(102401)}, b""), ({}, iter([b"x" * 60000] * 2))):
        s = connect(lab)
        if headers:
            s.http.sock.sendall(f"PUT {t['path']} HTTP/1.1\r\nHost: h\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 102401\r\n\r\n".encode())
            assert s.http.sock.recv(4096).startswith(b"HTTP/1.1 413 ")	# not a byte of it was read
        else:
            status, got, _ = s.raw("PUT", t["path"], body, BLOB)
            assert (status, got["x-ms-error-code"]) == (413, "RequestBodyTooLarge")
        s.close()
    assert c.raw("PUT", t["path"], b"x" * 102400, BLOB)[0] == 201	# with a sync
    used = lab.hub_ctl("counters")[0]["blob_bytes"]
    # Blocks that are fine alone and too long together.
    ids = [base64.b64encode(b"%04d" % i).decode() for i in range(2)]
    for i in ids:
        assert c.raw("PUT", f"{t['path']}&comp=block&blockid={i.replace('=', '%3D')}", b"x" * 60000)[0] == 201
    assert put_list(c, t["path"], *ids)[0] == 413
    assert c.raw("GET", t["path"])[2] == b"x" * 102400
    assert finish(c, name, t)[0] == 204
    reconfigure(lab, f'max_blob_bytes = "2 MiB"; blobs_max_bytes = {max(used, 1 << 20) + (1 << 20)};')
    again(lab, c)
    t = start(c, name, "budget")
    s = connect(lab)
    status, got, _ = s.raw("PUT", t["path"], b"x" * (2 << 20), BLOB)
    s.close()
    assert (status, got["x-ms-error-code"]) == (507, "InsufficientStorage")
    wait_for("the room to be given back", 30, lambda: lab.hub_ctl("counters")[0]["blob_bytes"] < used + (1 << 18))
    assert c.raw("PUT", t["path"], b"x" * 1000, BLOB)[0] == 201
    assert finish(c, name, t)[0] == 204
    c.close()


def test_off(lab):
    name, c = device(lab, 2)
    reconfigure(lab, 'max_blob_bytes = 0;')
    again(lab, c)
    status, headers, body = c.raw("POST", f"/devices/{name}/files", json.dumps({"blobName": "x"}))
    assert (status, error_of(body), headers["iothub-errorcode"]) == (400, *["DefaultStorageEndpointNotConfigured"] * 2)
    assert c.raw("POST", f"/devices/{name}/files/notifications", json.dumps({"correlationId": "x", "isSuccess": True}))[0] == 400
    assert c.raw("GET", "/uploads/x")[0] == 404
    assert listed(lab)	# what is there stays in the operator's hands
    c.close()
    reconfigure(lab, "")
