# vars: tag=2.0 replicas=4 debug=true zones=["a", "b"] limits={web = 64}
variable "tag" {
  type        = string
  description = "version of the image"
}
variable "replicas" {
  default = 2
}
variable "debug" {
  type    = bool
  default = false
}
variable "zones" {
  type = list(string)
}
variable "limits" {
  type    = map(number)
  default = { web = 128 }
}
variable "unused" {
  default = ["x", "y"]
}

locals {
  image  = "${local.prefix}/web:${var.tag}"
  prefix = "registry.example"
  labels = {
    zone  = join("+", var.zones)
    level = var.debug ? "debug" : "info"
  }
}

task "web" {
  datacenters = var.zones
  count       = var.replicas * 2
  image       = local.image
  args        = [upper(local.labels.level), tostring(var.limits["web"]), lower("ABC")]

  env {
    ZONES  = local.labels.zone
    LABELS = jsonencode(local.labels)
    FIRST  = var.zones[0]
  }
  resources {
    memory = var.limits.web
  }
}
