# Converted from parameterized. Comments say what a person has to decide.

job "transcode" {
  type = "batch"

  task "ffmpeg" {
    # exec shuts a process in, raw_exec does not; put it into an image, and use docker
    driver  = "raw_exec"
    command = "/usr/bin/ffmpeg"
    args    = ["-i", "local/in.mp4", "-preset", "$${NOMAD_META_profile}"]

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }
}
