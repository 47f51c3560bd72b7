# Converted from parameterized. Comments say what a person has to decide.

job "transcode" {
  type = "batch"

  parameterized {
    payload       = "required"
    meta_required = ["profile"]
  }

  task "ffmpeg" {
    # exec shuts a process in, raw_exec does not; put it into an image, and use docker
    driver  = "raw_exec"
    command = "/usr/bin/ffmpeg"
    args    = ["-i", "local/in.mp4", "-preset", "${CUBE_META_profile}"]

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }

    # the payload is not in local/: CUBE_PAYLOAD_FILE says where it is; read it there: ${CUBE_PAYLOAD_FILE} stands
    # for it in args and env
    dispatch_payload {
      file = "in.mp4"
    }
  }
}
