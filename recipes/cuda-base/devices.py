"""The GPUs that the driver shows, by way of the driver's own library. Without a driver it says so, with status 0; with one that fails, status 1."""

import ctypes
import sys

try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    print(f"no driver here: {error}")
    sys.exit(0)

version, count = ctypes.c_int(), ctypes.c_int()
if (status := cuda.cuInit(0)) != 0:
    print(f"cuInit: error {status}")
    sys.exit(1)
cuda.cuDriverGetVersion(ctypes.byref(version))
cuda.cuDeviceGetCount(ctypes.byref(count))
print(f"CUDA {version.value // 1000}.{version.value % 1000 // 10}, {count.value} devices")
for number in range(count.value):
    device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, len(name), device)
    print(f"{number}: {name.value.decode()}")
