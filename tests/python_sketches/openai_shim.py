#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
DSMIL OpenAI-Compatible Shim
Exposes local OpenAI API, routes all requests via DBE to L7 Router

The router's socket lies in DSMIL_RUN, the key in DSMIL_KEYS; DSMIL_SHIM_PORT moves the port.
"""

import logging
import os
import time
import uuid
from typing import List

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

from dsmil_dbe import DBEMessage, DBESocket, MessageType
from dsmil_pqc import MLDSASigner

DSMIL_OPENAI_API_KEY = os.environ.get("DSMIL_OPENAI_API_KEY", "dsmil-local-key")
L7_ROUTER_SOCKET = os.environ.get("DSMIL_RUN", "/var/run/dsmil") + "/" + os.environ.get("DSMIL_ROUTER",
                                                                                      "l7-router.sock")
SHIM_KEY = os.environ.get("DSMIL_KEYS", "/opt/dsmil/keys") + "/" + os.environ.get("DSMIL_SHIM_KEY", "shim-0.key")

app = FastAPI(title="DSMIL OpenAI Shim", version="1.0.0")

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger(__name__)

# Initialize PQC signer for claim tokens
pqc_signer = MLDSASigner(key_path=SHIM_KEY)


class ChatMessage(BaseModel):
    role: str
    content: str


class ChatCompletionRequest(BaseModel):
    model: str
    messages: List[ChatMessage]
    temperature: float = 0.7
    max_tokens: int = 512
    stream: bool = False


class ModelInfo(BaseModel):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "dsmil"


@app.get("/v1/models")
def list_models():
    """List available DSMIL L7 models"""
    return {
        "object": "list",
        "data": [
            ModelInfo(id="llama-7b-int8-amx", created=int(time.time())),
            ModelInfo(id="mistral-7b-int8-amx", created=int(time.time())),
            ModelInfo(id="llm-1b-npu", created=int(time.time())),
        ]
    }


@app.post("/v1/chat/completions")
def chat_completions(request: ChatCompletionRequest, authorization: str = Header(None)):
    """
    OpenAI-compatible chat completions endpoint
    Routes all requests via DBE to L7 Router
    """
    # Step 1: Validate API key
    if not authorization or not authorization.startswith("Bearer "):
        raise HTTPException(status_code=401, detail="Missing or invalid Authorization header")

    api_key = authorization[7:]  # Remove "Bearer "
    if api_key != DSMIL_OPENAI_API_KEY:
        raise HTTPException(status_code=401, detail="Invalid API key")

    # Step 2: Create L7 claim token (PQC-signed)
    request_id = str(uuid.uuid4())
    claim_data = {
        "tenant_id": "LOCAL_TOOL_USER",
        "client_id": "openai_shim",
        "roles": ["SOC_ASSIST"],
        "request_id": request_id,
        "timestamp": time.time()
    }
    claim_token = pqc_signer.sign(claim_data)

    # Step 3: Map OpenAI model to L7 profile
    profile_map = {
        "llama-7b-int8-amx": "llm-7b-amx",
        "mistral-7b-int8-amx": "llm-7b-amx",
        "llm-1b-npu": "llm-1b-npu",
        "gpt-3.5-turbo": "llm-7b-amx",  # Fallback mapping
        "gpt-4": "llm-7b-amx",
    }
    l7_profile = profile_map.get(request.model, "llm-7b-amx")

    # Step 4: Create DBE L7_CHAT_REQ message
    dbe_msg = DBEMessage(
        msg_type=MessageType.L7_CHAT_REQ,
        correlation_id=request_id,
        payload={
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
        }
    )

    # Set DBE TLVs
    dbe_msg.tlv_set("TENANT_ID", "LOCAL_TOOL_USER")
    dbe_msg.tlv_set("COMPARTMENT_MASK", 0x01)  # SOC compartment
    dbe_msg.tlv_set("CLASSIFICATION", "SECRET")
    dbe_msg.tlv_set("ROE_LEVEL", "SOC_ASSIST")
    dbe_msg.tlv_set("L7_PROFILE", l7_profile)
    dbe_msg.tlv_set("L7_CLAIM_TOKEN", claim_token)
    dbe_msg.tlv_set("REQUEST_ID", request_id)
    dbe_msg.tlv_set("TIMESTAMP", time.time())
    dbe_msg.tlv_set("DEVICE_ID_SRC", 0)  # Shim is not a DSMIL device
    dbe_msg.tlv_set("DEVICE_ID_DST", 43)  # Target L7 Router

    logger.info(f"Routing OpenAI request via DBE | Model: {request.model} \u2192 Profile: {l7_profile} | "
                f"Request: {request_id}")

    # Step 5: Send to L7 Router via DBE over UDS
    try:
        router_socket = DBESocket(connect_path=L7_ROUTER_SOCKET)
        response = router_socket.send_and_receive(dbe_msg, timeout=30.0)

        if response.msg_type != MessageType.L7_CHAT_RESP:
            raise HTTPException(status_code=500, detail=f"Unexpected response type: 0x{response.msg_type:02X}")

        # Step 6: Convert DBE response to OpenAI format
        result = response.payload

        if "error" in result:
            raise HTTPException(status_code=500, detail=result["error"])

        openai_response = {
            "id": request_id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request.model,
            "choices": result.get("choices", []),
            "usage": result.get("usage", {}),
            "dsmil_metadata": {
                "device_id": result.get("device_id"),
                "latency_ms": result.get("latency_ms"),
                "l7_profile": l7_profile,
            }
        }

        logger.info(f"Completed OpenAI request | Request: {request_id}")

        return openai_response

    except Exception as e:
        logger.error(f"DBE communication error: {e}")
        raise HTTPException(status_code=500, detail=f"DBE routing failed: {str(e)}")


@app.post("/v1/completions")
def completions(request: ChatCompletionRequest, authorization: str = Header(None)):
    """Legacy completions endpoint - maps to chat completions"""
    if not request.messages:
        request.messages = [ChatMessage(role="user", content="")]

    return chat_completions(request, authorization)


if __name__ == "__main__":
    import uvicorn
    port = int(os.environ.get("DSMIL_SHIM_PORT", "8001"))
    logger.info(f"Starting DSMIL OpenAI Shim on 127.0.0.1:{port}")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="info")
