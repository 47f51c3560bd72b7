# vars: stray=1
# A fault of each common kind: the first ten are shown.
task "web" {
  imagee = "nginx"
  count  = -1
  port "http" {
    static = 65536
  }
  memory = 64
}

variable "tag" {}

task "web" {
  image = "nginx"
}

job "shop" {
  count = 3
  task "api" {
    image    = "api:${var.tga}"
    priority = 3
    resources {
      cpu    = "much"
      memory = "lots"
    }
    constraint {
      attribute = "datacenter"
      value     = "dc1"
    }
    kill_timeout = 5
    args         = "one"
    tasks {}
  }
}
