"""A client of runtime.v1 and caisson.v1 that has nothing of ours but the protos: Debian's python3-grpcio.

    cri_client.py STUBS SOCKET IMAGE DIRECTORY

Drives one pod and container through their lives, calls every RPC there is, and prints what it saw as JSON.
"""
import json
import os
import sys
import threading

stubs, socket, image, directory = sys.argv[1:]
sys.path.insert(0, stubs)

import grpc  # noqa: E402
import api_pb2 as cri  # noqa: E402
import api_pb2_grpc  # noqa: E402
import caisson_pb2 as own  # noqa: E402
import caisson_pb2_grpc  # noqa: E402

DEADLINE = 30
channel = grpc.insecure_channel(
    "unix:" + socket, options=[("grpc.max_receive_message_length", 16 << 20)]
)
runtime = api_pb2_grpc.RuntimeServiceStub(channel)
images = api_pb2_grpc.ImageServiceStub(channel)
caisson = caisson_pb2_grpc.CaissonStub(channel)
services = {
    "RuntimeService": (runtime, cri),
    "ImageService": (images, cri),
    "Caisson": (caisson, own),
}
calls = {}


def method_of(service, name):
    return services[service][1].DESCRIPTOR.services_by_name[service].methods_by_name[name]


def call(service, name, /, *, streams_out=False, streams_in=False, **fields):
    """The reply, or the list of a stream's replies; None after an error, whose status is noted."""
    stub, _ = services[service]
    request = getattr(services[service][1], method_of(service, name).input_type.name)(**fields)
    try:
        reply = getattr(stub, name)(iter([request]) if streams_in else request, timeout=DEADLINE)
        if streams_out:
            reply = list(reply)
        calls[service + "." + name] = ["OK", ""]
        return reply
    except grpc.RpcError as error:
        calls[service + "." + name] = [error.code().name, error.details()]
        return None


def run(name, /, **fields):
    return call("RuntimeService", name, **fields)


seen = {}
events = []
stream = runtime.GetContainerEvents(cri.GetEventsRequest())


def follow():
    try:
        for event in stream:
            events.append([event.container_id, event.container_event_type])
            calls["RuntimeService.GetContainerEvents"] = ["OK", ""]
    except grpc.RpcError as error:
        calls.setdefault("RuntimeService.GetContainerEvents", [error.code().name, error.details()])


follower = threading.Thread(target=follow, daemon=True)
follower.start()

seen["version"] = run("Version", version="v1").runtime_name
seen["ready"] = [c.type for c in run("Status", verbose=True).status.conditions if c.status]
seen["driver"] = run("RuntimeConfig").linux.cgroup_driver
run("UpdateRuntimeConfig")

spec = cri.ImageSpec(image=image)
seen["images"] = [list(one.repo_tags) for one in call("ImageService", "ListImages").images]
seen["streamed images"] = sum(
    len(part.images) for part in call("ImageService", "StreamImages", streams_out=True)
)
image_id = call("ImageService", "ImageStatus", image=spec, verbose=True).image.id
call("ImageService", "ImageFsInfo")
call("ImageService", "PullImage", image=cri.ImageSpec(image="localhost:1/none:1"))
call("ImageService", "RemoveImage", image=cri.ImageSpec(image="localhost/none:1"))

metadata = cri.PodSandboxMetadata(name="python", namespace="test", uid="python", attempt=1)
own_pids = cri.NamespaceOption(pid=cri.CONTAINER)
config = cri.PodSandboxConfig(
    metadata=metadata,
    hostname="python",
    log_directory=directory + "/logs/python",
    labels={"app": "py"},
    linux=cri.LinuxPodSandboxConfig(security_context=cri.LinuxSandboxSecurityContext(namespace_options=own_pids)),
)
pod = run("RunPodSandbox", config=config).pod_sandbox_id
seen["joined"] = run("RunPodSandbox", config=config).pod_sandbox_id == pod
seen["pod state"] = run("PodSandboxStatus", pod_sandbox_id=pod, verbose=True).status.state
selector = cri.PodSandboxFilter(label_selector={"app": "py"})
seen["pods"] = [one.id for one in run("ListPodSandbox", filter=selector).items] == [pod]
parts = run("StreamPodSandboxes", filter=selector, streams_out=True)
seen["streamed pods"] = [one.id for part in parts for one in part.pod_sandboxes] == [pod]
run("UpdatePodSandboxResources", pod_sandbox_id=pod, resources=cri.LinuxContainerResources(cpu_shares=100))

container = cri.ContainerConfig(
    metadata=cri.ContainerMetadata(name="c", attempt=0),
    image=cri.ImageSpec(image=image_id, user_specified_image=image),
    command=["/bin/sh", "-c", "echo out; read forever"],
    log_path="c.log",
    stdin=True,
    annotations={"note": "ü"},
    linux=cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(namespace_options=own_pids)),
)
cid = run("CreateContainer", pod_sandbox_id=pod, config=container, sandbox_config=config).container_id
run("StartContainer", container_id=cid)
status = run("ContainerStatus", container_id=cid, verbose=True).status
seen["container state"] = status.state
seen["annotations"] = dict(status.annotations)
seen["times"] = 0 < status.created_at <= status.started_at
seen["containers"] = [one.id for one in run("ListContainers").containers] == [cid]
parts = run("StreamContainers", streams_out=True)
seen["streamed containers"] = [one.id for part in parts for one in part.containers] == [cid]
reply = run("ExecSync", container_id=cid, cmd=["/bin/sh", "-c", "echo $((6 * 7)); exit 3"], timeout=10)
seen["exec"] = [reply.stdout.decode(), reply.exit_code]
run("Exec", container_id=cid, cmd=["/bin/true"], stdout=True)
run("Attach", container_id=cid, stdout=True)
run("PortForward", pod_sandbox_id=pod, port=[80])
unified = cri.LinuxContainerResources(unified={"cgroup.max.descendants": "9"})
run("UpdateContainerResources", container_id=cid, linux=unified)
status = run("ContainerStatus", container_id=cid).status
seen["resources"] = dict(status.resources.linux.unified)
run("ReopenContainerLog", container_id=cid)
run("ContainerStats", container_id=cid)
run("ListContainerStats")
run("StreamContainerStats", streams_out=True)
run("PodSandboxStats", pod_sandbox_id=pod)
run("ListPodSandboxStats")
run("StreamPodSandboxStats", streams_out=True)
run("ListMetricDescriptors")
run("ListPodSandboxMetrics")
run("StreamPodSandboxMetrics", streams_out=True)
run("CheckpointContainer", container_id=cid, location=directory + "/checkpoint.tar")
os.mkdir(directory + "/checkpoint")
run("CheckpointPod", pod_sandbox_id=pod, output_path=directory + "/checkpoint")
config.metadata.uid = "python-restored"
# what stands in for criu here writes down a process without capabilities, and any container may have that
reply = run("RestorePod", checkpoint_path=directory + "/checkpoint", config=config, container_configs=[container])
seen["restored"] = reply and [one.name for one in reply.restored_containers]
if reply:
    run("RemovePodSandbox", pod_sandbox_id=reply.pod_sandbox_id)

call("Caisson", "Info")
call("Caisson", "TagImage", image=image, name="localhost/python:1")
call("Caisson", "UntagImage", image="localhost/python:1")
call("Caisson", "InspectImage", image=image)
waiter = threading.Thread(target=lambda: seen.update(waited=call("Caisson", "WaitContainer", container_id=cid).exit_code))
waiter.start()
run("StopContainer", container_id=cid, timeout=0)
waiter.join()
seen["end"] = run("ContainerStatus", container_id=cid).status.exit_code
run("RemoveContainer", container_id=cid)
run("StopPodSandbox", pod_sandbox_id=pod)
run("RemovePodSandbox", pod_sandbox_id=pod)
try:
    runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod), timeout=DEADLINE)
except grpc.RpcError as error:
    seen["gone"] = error.code().name

# whatever else there is, with nothing said
for service, (_, module) in services.items():
    for method in module.DESCRIPTOR.services_by_name[service].methods:
        if service + "." + method.name not in calls:
            # not in the descriptors of Debian's Python: told by what the stub is
            kind = type(getattr(services[service][0], method.name)).__name__
            call(
                service,
                method.name,
                streams_out=kind.startswith("_UnaryStream"),
                streams_in=kind.startswith("_StreamUnary"),
            )

for _ in range(100):
    if [pod, 3] in events:
        break
    threading.Event().wait(0.05)
stream.cancel()
follower.join()
seen["events of the container"] = [kind for who, kind in events if who == cid]
seen["events of the pod"] = [kind for who, kind in events if who == pod]
print(json.dumps({"calls": calls, "seen": seen}))
