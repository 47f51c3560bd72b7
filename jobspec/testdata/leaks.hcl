# vars: token=s3cret number=abc
variable "token" {
  sensitive = true
}
variable "number" {
  type      = number
  sensitive = true
}
variable "kept" {
  sensitive = true
  default   = "x"
}
task "a" {
  image = "x:${var.token}"
  env   = { (var.token) = "x" }
  args  = [upper(var.token)]
  meta = {
    token = var.token
  }
  count = var.token == "x" ? 1 : 2
  config {
    hostname = var.token
  }
}
