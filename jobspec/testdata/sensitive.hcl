# vars: token=s3cret db={host = "db1", password = "hunter2"} user=shop
variable "token" {
  sensitive = true
}
variable "user" {}
variable "db" {
  type      = map(string)
  sensitive = true
}

locals {
  url = "postgres://${var.user}:${var.db.password}@${var.db["host"]}/"
}

task "web" {
  image = "cube/hello:1"
  env {
    USER  = var.user
    TOKEN = "bearer ${var.token}"
    URL   = local.url
    NODE  = "${node.name}"
  }
}

task "worker" {
  image = "cube/hello:1"
  env   = var.db
}
