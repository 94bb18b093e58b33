// Placeholder.

import { Page } from "./page.js";

export class Queue extends Page {}
