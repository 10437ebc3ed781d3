"""x402's own Python client and OpenAI's SDK against a gateway that takes payments by request, without an API key.

Started as `SCRIPT BASE_URL KEY_FILE MODEL CHANNEL`. What is Peerwatt's own is the class `Scheme`; docs/spec/x402.md says
what it signs.
"""

import asyncio
import hashlib
import json
import os
import struct
import sys
import time

import httpx
import openai
from harness import API_KEY as KEY_FILE
from harness import BASE_URL, MODEL, equal, main
from nacl.signing import SigningKey
from x402 import x402Client
from x402.http.clients import x402_httpx_transport
from x402.http.utils import decode_payment_response_header

CHANNEL = sys.argv[4]
with open(KEY_FILE) as file:
    KEY = SigningKey(bytes.fromhex(json.load(file)["secret"]["plain"]["seed"]))


class Scheme:
    """Pays from one channel, a request at a time."""

    scheme = "peerwatt-channel"

    def __init__(self):
        self.paid = 0

    def create_payment_payload(self, requirements):
        extra = requirements.extra
        nonce, expires_at = os.urandom(32), int(time.time() * 1000) + 60_000
        amount = int(requirements.amount)
        chain_id = extra["chainId"].encode()
        fields = bytes.fromhex(CHANNEL) + bytes.fromhex(extra["request"]) + nonce
        fields += amount.to_bytes(16, "little") + struct.pack("<Q", expires_at)
        message = b"peerwatt/payment/1\0" + struct.pack("<I", len(chain_id)) + chain_id + fields
        self.paid += 1
        return {
            "value": {
                "channel": CHANNEL,
                "request": extra["request"],
                "nonce": nonce.hex(),
                "amountMax": str(amount),
                "expiresAt": expires_at,
            },
            "signer": KEY.verify_key.encode().hex(),
            "signature": KEY.sign(message).signature.hex(),
        }


def transport(scheme):
    payer = x402Client()
    # Its limits are for the currencies that it knows.
    payer.set_spend_controls(False)
    network = asyncio.run(networks())
    payer.register(network, scheme)
    return x402_httpx_transport(payer)


async def networks():
    """The network that the gateway names."""
    async with httpx.AsyncClient() as http:
        refused = await http.post(f"{BASE_URL}/chat/completions", json=BODY)
    equal((refused.status_code, refused.json()["error"]["code"]), (402, "payment_required"))
    from x402.http.utils import decode_payment_required_header

    required = decode_payment_required_header(refused.headers["payment-required"])
    equal(required.x402_version, 2)
    [way] = required.accepts
    request = hashlib.sha256(required.resource.url.encode() + b"\0" + refused.request.content)
    equal(way.extra["request"], request.hexdigest())
    return way.network


BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}


def test_a_request_is_paid_when_it_is_asked_for():
    scheme = Scheme()

    async def ask():
        async with httpx.AsyncClient(transport=pays, timeout=60) as http:
            return await http.post(f"{BASE_URL}/chat/completions", json=BODY)

    pays = transport(scheme)
    answer = asyncio.run(ask())
    equal(answer.status_code, 200)
    told = decode_payment_response_header(answer.headers["payment-response"])
    assert told.success and int(told.amount) > 0, told
    equal(told.transaction, answer.headers["x-request-id"])
    equal(told.amount, answer.headers["x-peerwatt-cost-nusd"])
    equal(scheme.paid, 1)


def test_openais_client_pays_for_plain_answers_and_streams():
    scheme = Scheme()
    pays = transport(scheme)

    async def ask():
        http = httpx.AsyncClient(transport=pays, timeout=60)
        async with openai.AsyncOpenAI(
            base_url=BASE_URL, api_key="x402", http_client=http, max_retries=0
        ) as client:
            plain = await client.chat.completions.create(**BODY)
            stream = await client.chat.completions.create(**BODY, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
            models = [model.id async for model in client.models.list()]
            return plain, text, models

    plain, text, models = asyncio.run(ask())
    assert plain.choices[0].message.content and text, (plain, text)
    assert MODEL in models, models
    equal(scheme.paid, 2)


def test_a_channel_of_somebody_else_does_not_pay():
    global KEY
    scheme, own = Scheme(), KEY
    pays = transport(scheme)

    async def ask():
        async with httpx.AsyncClient(transport=pays, timeout=60) as http:
            return await http.post(f"{BASE_URL}/chat/completions", json=BODY)

    KEY = SigningKey.generate()
    try:
        answer = asyncio.run(ask())
    finally:
        KEY = own
    equal((answer.status_code, answer.json()["error"]["code"]), (402, "payment_invalid"))


main()
