# Several jobs in one file, in the order of the file; tasks by name.
job "shop" {
  datacenters = ["dc1"]
  priority    = 80
  meta = {
    owner = "shop"
  }

  task "web" {
    image = "cube/hello:1"
    count = 3
  }
  task "api" {
    driver  = "raw_exec"
    command = "/usr/local/bin/api"
    args    = ["-port", "${CUBE_PORT_http}"]
    port "http" {}
    config {}
    depends_on "web" {
      condition = "running"
    }
  }
  task "mail" {
    image = "cube/hello:1"
    depends_on "web" {
      timeout = "5m"
    }
    depends_on "api" {}
  }
}

task "nightly" {
  type  = "batch"
  image = "cube/hello:1"
}

job "alone" {
  task "alone" {
    image = "cube/hello:1"
  }
}

task "resize" {
  type  = "sysbatch"
  image = "cube/hello:1"
  args  = ["${CUBE_META_size}", "${CUBE_PAYLOAD_FILE}"]
  parameterized {
    payload       = "required"
    meta_required = ["width", "height"]
    meta_optional = ["note"]
  }
  dispatch_payload {
    file = "photo.json"
  }
}
