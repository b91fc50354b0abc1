{
  # The install build: node-gyp makes the addon and, through static.mk, the static programs beside it.
  # native/CMakeLists.txt is the developer build. Both read native/sources.
  "target_defaults": {
    "default_configuration": "Release"
  },
  "targets": [
    {
      "target_name": "caisson",
      "sources": ["<!@(native/build-id && native/sources core addon)"],
      "include_dirs": ["native", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_CPP_EXCEPTIONS", "_GNU_SOURCE"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": [
        "-std=c++20", "-fexceptions", "-fvisibility=hidden", "-O2",
        "-Wall", "-Wextra", "-Wno-cast-function-type", "-Wno-missing-field-initializers", "-Werror"
      ],
      "libraries": ["-lisal", "-lzstd", "-pthread"],
      "dependencies": ["static_programs"]
    },
    {
      "target_name": "static_programs",
      "type": "none",
      "actions": [
        {
          "action_name": "static_programs",
          "inputs": ["native/static.mk", "native/sources", "<!@(native/sources core musl monitor oci probe)"],
          "outputs": ["<(PRODUCT_DIR)/caisson-monitor"],
          "action": ["make", "-f", "native/static.mk", "OUT=<(PRODUCT_DIR)"]
        }
      ]
    }
  ]
}
