"""The built and deployed whole, used as its users use it, in labs."""
